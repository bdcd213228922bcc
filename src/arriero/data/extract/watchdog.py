"""Pages are extracted in a child process, so that none can hold up or kill a worker."""

from __future__ import annotations

from arriero.data.child.watchdog import DiedError, TooLongError, Watchdog
from arriero.data.readers.sources import Problem
from arriero.data.records import Limits

_MEMORY = 4 << 30


class PageWorker:
    """Extracts pages in a child process, which starts with the first page.

    Raises:
        ArrieroError: from :meth:`text`, the child does not start.
    """

    def __init__(self, tier: str, comments: bool, links: bool, trimmed: bool, memory: int = _MEMORY) -> None:
        self._child = Watchdog(
            "arriero.data.pages.child", (tier, comments, links, trimmed, memory), "extracts pages"
        )

    def text(self, page: bytes, limits: Limits) -> str | Problem:
        """The text of a page in UTF-8, or why there is none. CPU time is counted, so a busy machine changes nothing."""
        try:
            status, data = self._child.ask(page, limits.seconds)
        except TooLongError as error:
            detail = f"over {limits.seconds:g} seconds of CPU time"
            return Problem("extract.time", "the extractor did not answer" if error.silent else detail)
        except DiedError as error:
            return Problem("extract.crash", f"the extractor ended with {error.code}")
        text = data.decode("utf-8")
        if status == 0:
            return text
        memory = text.startswith("MemoryError")
        return Problem("extract.memory" if memory else "extract.error", text)

    def close(self) -> None:
        """End the child."""
        self._child.close()
