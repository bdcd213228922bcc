"""A child process for PDF files, seen from the parent: asked with a deadline, killed when it does not answer."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_BLOCK = 1 << 16
_SOURCE = str(Path(__file__).parents[3])
"""The folder that holds the package, for a child that would not find it otherwise."""


class PdfWorker:
    """Starts its child when first asked, and a new one after a kill. Not for threads."""

    def __init__(self, memory: int, pages: int, characters: int) -> None:
        """``memory``: most bytes of address space of the child; ``pages`` and ``characters``: most of one file."""
        self._arguments = [str(memory), str(pages), str(characters)]
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, content: bytes, seconds: float) -> dict[str, Any]:
        """``{"pages": [text, ...], "count": int}`` or ``{"reason", "detail"}``."""
        child = self._start()
        try:
            answer = _exchange(child, content, time.monotonic() + seconds)
        except TimeoutError:
            self.close()
            return {"reason": "extract.timeout", "detail": f"no end after {seconds:g} seconds"}
        except (OSError, EOFError):
            self.close()
            return {
                "reason": "extract.crashed",
                "detail": f"the PDF library ended its process ({child.returncode})",
            }
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
        self._child = None

    def __del__(self) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        path = os.pathsep.join(one for one in (_SOURCE, os.environ.get("PYTHONPATH")) if one)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "arriero.data.pdf.child", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        for stream in (self._child.stdin, self._child.stdout):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        return self._child


def _exchange(child: subprocess.Popen[bytes], content: bytes, deadline: float) -> bytes:
    """Write a message and read its answer, each part as soon as the child takes or gives it.

    Raises:
        TimeoutError: the deadline passed.
        EOFError, OSError: the child is gone.
    """
    assert child.stdin is not None and child.stdout is not None
    unsent = memoryview(len(content).to_bytes(8, "big") + content)
    received = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        selector.register(child.stdin, selectors.EVENT_WRITE)
        while len(received) < 8 or len(received) < 8 + int.from_bytes(received[:8], "big"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                if key.fileobj is child.stdin:
                    unsent = unsent[os.write(child.stdin.fileno(), unsent[:_BLOCK]) :]
                    if not unsent:
                        selector.unregister(child.stdin)
                    continue
                block = os.read(child.stdout.fileno(), _BLOCK)
                if not block:
                    child.wait()
                    raise EOFError
                received += block
    return bytes(received[8:])
