"""A child process for PDF files, seen from the parent: asked with a bound on its time, killed when that is over."""

from __future__ import annotations

import json
from typing import Any

from arriero.data.child.watchdog import DiedError, TooLongError, Watchdog


class PdfWorker:
    """Starts its child when first asked, and a new one after a kill. Not for threads."""

    def __init__(self, memory: int, pages: int, characters: int) -> None:
        """``memory``: most bytes of address space of the child; ``pages`` and ``characters``: most of one file."""
        self._child = Watchdog("arriero.data.pdf.child", (memory, pages, characters), "reads PDF files")

    def ask(self, content: bytes, seconds: float) -> dict[str, Any]:
        """``{"pages": [text, ...], "count": int}`` or ``{"reason", "detail"}``. ``seconds``: of CPU time.

        Raises:
            ArrieroError: the child does not start.
        """
        try:
            found: dict[str, Any] = json.loads(self._child.ask(content, seconds)[1])
        except TooLongError:
            return {"reason": "extract.timeout", "detail": f"no end after {seconds:g} seconds of CPU time"}
        except DiedError as error:
            return {
                "reason": "extract.crashed",
                "detail": f"the PDF library ended its process ({error.code})",
            }
        return found

    def close(self) -> None:
        """End the child, if there is one."""
        self._child.close()
