"""The parent's side: one long-lived child process per worker, replaced when a request is the end of it.

A request costs a write and a read of a pipe, so every one goes there and none can hold up or kill a worker.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from arriero.data.child.serve import ANSWER, REQUEST
from arriero.errors import ArrieroError

_START_SECONDS = 120
_SILENT_SECONDS = 60.0
"""On top of 20 times what a request is given: a child that says nothing for so long was stopped."""
_PIPE_BYTES = 1 << 20
_START = "import sys; sys.path[:] = {path!r}; from {module} import main; main({arguments})"


class TooLongError(Exception):
    """The request took more CPU time than it was given, or the child did not answer at all (``silent``)."""

    def __init__(self, silent: bool) -> None:
        super().__init__()
        self.silent = silent


class DiedError(Exception):
    """The child ended with ``code`` (negative: the signal's number)."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Watchdog:
    """Asks a child process, which starts with the first request. Not for threads.

    Args:
        module: has a function ``main`` that calls :func:`arriero.data.child.serve.serve`.
        arguments: of ``main``.
        task: what the child does, for messages: "extracts pages".
    """

    def __init__(self, module: str, arguments: tuple[Any, ...], task: str) -> None:
        self._module, self._arguments, self._task = module, arguments, task
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, data: bytes, seconds: float) -> tuple[int, bytes]:
        """Status and bytes of the answer. ``seconds``: of CPU time, so a busy machine changes nothing.

        Raises:
            TooLongError: the time was over.
            DiedError: the child is gone.
            ArrieroError: it does not start.
        """
        child = self._started()
        try:
            return _exchange(child, data, seconds)
        except (BrokenPipeError, EOFError):
            code = self._ended()
            if code == -signal.SIGPROF:
                raise TooLongError(silent=False) from None
            raise DiedError(code) from None
        except TimeoutError:
            child.kill()
            self._ended()
            raise TooLongError(silent=True) from None

    def close(self) -> None:
        """End the child."""
        if self._child is not None and self._owner == os.getpid():
            self._child.kill()
            self._ended()
        self._child = None

    def __del__(self) -> None:
        try:  # noqa: SIM105  at the interpreter's end the module's names are gone, suppress among them
            self.close()
        except Exception:
            pass

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._owner != os.getpid():  # a forked worker needs its own
            arguments = ", ".join(map(repr, self._arguments))
            code = _START.format(path=sys.path, module=self._module, arguments=arguments)
            self._child = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            )  # fmt: skip
            self._owner = os.getpid()
            for pipe in (self._child.stdin, self._child.stdout):
                assert pipe is not None
                with suppress(OSError, AttributeError):  # larger pipes spare switches between the processes
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            assert self._child.stdin is not None
            os.set_blocking(
                self._child.stdin.fileno(), False
            )  # a child that was stopped must not hold this one
            self._greeting(self._child)
        return self._child

    def _greeting(self, child: subprocess.Popen[bytes]) -> None:
        """Wait until the child is ready."""
        assert child.stdout is not None
        try:
            _read(child.stdout.fileno(), ANSWER.size, time.monotonic() + _START_SECONDS)
        except (EOFError, TimeoutError):
            child.kill()
            said = child.communicate()[1].decode("utf-8", "replace").strip().splitlines()
            self._child = None
            raise ArrieroError(
                f"the process that {self._task} does not start: {said[-1] if said else 'it says nothing'}"
            ) from None

    def _ended(self) -> int:
        """The code with which the child ended; the next request starts another."""
        assert self._child is not None
        self._child.communicate()
        code, self._child = self._child.returncode, None
        return code


def _exchange(child: subprocess.Popen[bytes], data: bytes, seconds: float) -> tuple[int, bytes]:
    assert child.stdin is not None
    assert child.stdout is not None
    # the child's own timer counts CPU time; this one only catches a child that was stopped
    until = time.monotonic() + _SILENT_SECONDS + 20 * seconds
    _write(child.stdin.fileno(), REQUEST.pack(len(data), max(int(seconds * 1000), 1)) + data, until)
    status, size = ANSWER.unpack(_read(child.stdout.fileno(), ANSWER.size, until))
    return status, _read(child.stdout.fileno(), size, until)


def _write(descriptor: int, data: bytes, until: float) -> None:
    """All of the bytes.

    Raises:
        BrokenPipeError: the other end is closed.
        TimeoutError: they were not taken in time.
    """
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            _wait(descriptor, select.POLLOUT, until)


def _read(descriptor: int, count: int, until: float) -> bytes:
    """Exactly ``count`` bytes.

    Raises:
        EOFError: the other end is closed.
        TimeoutError: they did not come in time.
    """
    parts = []
    while count:
        _wait(descriptor, select.POLLIN, until)
        data = os.read(descriptor, min(count, _PIPE_BYTES))
        if not data:
            raise EOFError
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _wait(descriptor: int, event: int, until: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(until - time.monotonic(), 0) * 1000):
        raise TimeoutError
