"""One long-lived child process per worker that extracts pages, and is replaced when a page is the end of it.

A page costs a write and a read of a pipe, so every page goes there and none can hold up or kill a worker.
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

from arriero.data.pages.child import ANSWER, REQUEST
from arriero.data.readers.sources import Problem
from arriero.data.records import Limits
from arriero.errors import ArrieroError

_MEMORY = 4 << 30
_START_SECONDS = 120
_PIPE_BYTES = 1 << 20
_START = "import sys; sys.path[:] = {path!r}; from arriero.data.pages.child import main; main({arguments})"


class Watchdog:
    """Extracts pages in a child process, which starts with the first page.

    Raises:
        ArrieroError: from :meth:`text`, the child does not start.
    """

    def __init__(self, tier: str, comments: bool, links: bool, trimmed: bool, memory: int = _MEMORY) -> None:
        self._arguments = (tier, comments, links, trimmed, memory)
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def text(self, page: bytes, limits: Limits) -> str | Problem:
        """The text of a page in UTF-8, or why there is none. CPU time is counted, so a busy machine changes nothing."""
        child = self._started()
        try:
            answer = self._exchange(child, page, limits)
        except (BrokenPipeError, EOFError):
            return self._ended(limits)
        except TimeoutError:
            child.kill()
            self._ended(limits)
            return Problem("extract.time", "the extractor did not answer")
        status, data = answer
        text = data.decode("utf-8")
        if status == 0:
            return text
        memory = text.startswith("MemoryError")
        return Problem("extract.memory" if memory else "extract.error", text)

    def close(self) -> None:
        """End the child."""
        if self._child is not None and self._owner == os.getpid():
            self._child.kill()
            self._child.communicate()
        self._child = None

    def __del__(self) -> None:
        try:  # noqa: SIM105  at the interpreter's end the module's names are gone, suppress among them
            self.close()
        except Exception:
            pass

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._owner != os.getpid():  # a forked worker needs its own
            code = _START.format(path=sys.path, arguments=", ".join(map(repr, self._arguments)))
            self._child = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            )  # fmt: skip
            self._owner = os.getpid()
            for pipe in (self._child.stdin, self._child.stdout):
                assert pipe is not None
                with suppress(OSError, AttributeError):  # larger pipes spare switches between the processes
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
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
                f"the process that extracts pages does not start: {said[-1] if said else 'it says nothing'}"
            ) from None

    def _exchange(self, child: subprocess.Popen[bytes], page: bytes, limits: Limits) -> tuple[int, bytes]:
        assert child.stdin is not None
        assert child.stdout is not None
        request = memoryview(REQUEST.pack(len(page), max(int(limits.seconds * 1000), 1)) + page)
        while request:
            request = request[os.write(child.stdin.fileno(), request) :]
        # The child's own timer counts CPU time; this one only catches a child that was stopped.
        until = time.monotonic() + 60 + 20 * limits.seconds
        status, size = ANSWER.unpack(_read(child.stdout.fileno(), ANSWER.size, until))
        return status, _read(child.stdout.fileno(), size, until)

    def _ended(self, limits: Limits) -> Problem:
        """What the end of the child says of the page."""
        assert self._child is not None
        self._child.communicate()
        code = self._child.returncode
        self._child = None
        if code == -signal.SIGPROF:
            return Problem("extract.time", f"over {limits.seconds:g} seconds of CPU time")
        return Problem("extract.crash", f"the extractor ended with {code}")


def _read(descriptor: int, count: int, until: float) -> bytes:
    """Exactly ``count`` bytes.

    Raises:
        EOFError: the other end is closed.
        TimeoutError: they did not come in time.
    """
    parts = []
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while count:
        if not poll.poll(max(until - time.monotonic(), 0) * 1000):
            raise TimeoutError
        data = os.read(descriptor, min(count, _PIPE_BYTES))
        if not data:
            raise EOFError
        parts.append(data)
        count -= len(data)
    return b"".join(parts)
