"""Stop strings, wherever the borders between tokens fall."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Lets text through until a stop string shows up, holding back what may still become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._early = 0  # of the held characters, how many came while nothing might stop the answer

    def push(self, text: str, *, armed: bool = True) -> tuple[str, bool]:
        """Take the next piece of text; give (text that is safe to show, whether a stop string was met).

        The stop string and what follows it are never shown. The one that is complete first counts, so that the
        answer does not depend on how the text was cut into pieces. Of two that are complete at once the longer one.

        Args:
            armed: whether a stop string that this piece completes ends the answer; else it is shown.
        """
        if not self._stops:
            return text, False
        self._held += text
        if not armed:
            self._early = len(self._held)
        found = [(end, end - len(stop)) for stop in self._stops if (end := self._end(stop)) > 0]
        if found:
            shown, self._held = self._held[: min(found)[1]], ""
            return shown, True
        keep = max(self._overlap(stop) for stop in self._stops)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        self._early = max(self._early - cut, 0)
        return shown, False

    def flush(self) -> str:
        """The text that was held back, at the end of the answer."""
        shown, self._held = self._held, ""
        return shown

    def _end(self, stop: str) -> int:
        """Where the first occurrence ends that was not complete while nothing might stop the answer; or 0."""
        place = self._held.find(stop, max(0, self._early - len(stop) + 1))
        return 0 if place < 0 else place + len(stop)

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins ``stop``."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
