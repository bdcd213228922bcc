"""What a model says, taken apart into text for the user and calls of tools, piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

from arriero.serving.tool_reader import Argued, Called, Part, Said, ToolReader

__all__ = ["Argued", "Called", "Part", "Reader", "Said", "text_of"]


class Reader:
    """Reads one answer from its beginning; without tools everything is text."""

    def __init__(self, tools: ToolReader | None = None) -> None:
        self._tools = tools

    @property
    def called(self) -> bool:
        """Whether there has been a call."""
        return self._tools is not None and self._tools.calls > 0

    def push(self, text: str, *, last: bool) -> list[Part]:
        """What more text says; ``last``: there is no more of it."""
        if self._tools is None:
            return [Said(text)] if text else []
        return [*self._tools.push(text), *(self._tools.finish() if last else [])]


def text_of(parts: Sequence[Part]) -> str:
    """The text among the parts."""
    return "".join(part.text for part in parts if isinstance(part, Said))
