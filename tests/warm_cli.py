"""Programs without their start: a process that has loaded Arriero's libraries and forks one for every program.

Loading torch and what follows it takes seconds of a core, and the tests start some two hundred programs. Each is still a
process of its own, with its own folder, environment, files and end; only what Python has imported is shared.

``python warm_cli.py SOCKET`` serves; ``call`` asks; the files that ``write_client`` makes ask too. A program is given as
its arguments, the first of them ``arriero`` or a Python file. Linux only; elsewhere they start as they always do.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LOADED = (
    "torch", "torch._dynamo", "torch._inductor.config", "torch._subclasses.fake_tensor", "torch.distributed",
    "torch.utils.flop_counter", "numpy", "safetensors.torch", "tokenizers", "pyarrow.parquet", "pandas", "jinja2",
    "arriero.cli", "arriero.recipe.walks", "arriero.recipe.report", "arriero.training.plan", "arriero.training.loop",
    "arriero.evaluation.plan", "arriero.models.checkpoint", "arriero.tokenization.load", "arriero.data.pipeline.run",
    "arriero.data.audit.write",
)  # fmt: skip
SUPPORTED = hasattr(os, "pidfd_open")
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({address!r})
    message = json.dumps([{first!r} + sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(asked, [len(message).to_bytes(8, "big")], [0, 1, 2])
    asked.sendall(message)
    answer = asked.recv(8)
os._exit(int(answer) if answer else 255)
"""
PLAIN = """#!/bin/sh
exec "{python}" {first} "$@"
"""


def call(
    address: Path, arguments: Sequence[str], cwd: str, environment: Mapping[str, str], files: Sequence[int], timeout: float
) -> int:  # fmt: skip
    """The exit code of a program with these standard files; killed with a TimeoutError after so many seconds."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(timeout)
        asked.connect(str(address))
        message = json.dumps([list(arguments), cwd, dict(environment)]).encode()
        socket.send_fds(asked, [len(message).to_bytes(8, "big")], files)
        asked.sendall(message)
        answer = asked.recv(8)
    assert answer, "the process that forks the programs has ended"
    return int(answer)


def write_client(program: Path, address: Path) -> None:
    """A program that stands for ``arriero``, or for ``python`` if it is called so.

    It gives its arguments, folder, environment and files to the server and ends as what it started; a signal ends it
    as it ends any program, and what it started is killed then.
    """
    command = program.name == "arriero"
    if SUPPORTED:
        text = CLIENT.format(
            python=sys.executable, address=str(address), first=["arriero"] if command else []
        )
    else:
        text = PLAIN.format(python=sys.executable, first="-m arriero" if command else "")
    program.write_text(text)
    program.chmod(0o755)


def serve(address: Path) -> None:
    """Answer until standard input closes; returns only in the process of a program, which is to run it."""
    import gc
    import importlib

    for name in LOADED:
        with contextlib.suppress(ImportError):  # whoever needs it tells that it is missing
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    with socket.socket(socket.AF_UNIX) as asked:
        asked.bind(str(address))
        asked.listen(16)
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([asked, 0], [], [])
            _bury()
            if 0 in ready:  # the tests are over
                os._exit(0)
            connection, _ = asked.accept()
            if os.fork() == 0:
                asked.close()
                _watch(connection)
                return
            connection.close()


def _bury() -> None:
    """Take leave of those that watched over commands that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(connection: socket.socket) -> None:
    """Fork the program and tell how it ended; a client that is gone takes its program with it."""
    head, files, _, _ = socket.recv_fds(connection, 8, 3)
    left, parts = int.from_bytes(head, "big"), []
    while left:
        parts.append(connection.recv(left))
        left -= len(parts[-1])
    command = os.fork()
    if command == 0:
        connection.close()
        _become(*json.loads(b"".join(parts)), files)
        return
    for one in files:
        os.close(one)
    ready, _, _ = select.select([connection, os.pidfd_open(command)], [], [])
    if connection in ready:
        os.kill(command, signal.SIGKILL)
    _, status = os.waitpid(command, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):  # nobody listens any more
        connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _become(arguments: list[str], cwd: str, environment: dict[str, str], files: list[int]) -> None:
    """The program's own side: its arguments, folder, environment and standard files."""
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    tunables = os.environ.get("GLIBC_TUNABLES", "")  # given when this process began, and read then
    os.environ.clear()
    os.environ.update(environment, GLIBC_TUNABLES=tunables)
    os.chdir(cwd)
    sys.argv = arguments


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
    if sys.argv[0] == "arriero":
        from arriero.__main__ import main

        main()
    else:
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
