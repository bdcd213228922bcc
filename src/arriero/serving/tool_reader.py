"""Reading calls out of an answer while it comes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from arriero.serving.tool_formats import ToolFormat


@dataclass(frozen=True)
class Said:
    """Text of the answer outside of calls."""

    text: str


@dataclass(frozen=True)
class Called:
    """A call begins."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class Argued:
    """The next piece of a call's arguments, which are JSON text."""

    index: int
    text: str


Part = Said | Called | Argued


@dataclass
class ToolReader:
    """Splits an answer that a grammar of calls has shaped into text and calls, piece by piece.

    The grammar fixes every character around the arguments, so it takes no guessing: a text lasts until a call's
    opener, arguments until their brackets are closed.

    Attributes:
        names: of the functions that may be called.
        calls: number of calls so far.
    """

    form: ToolFormat
    names: frozenset[str]
    calls: int = 0
    _held: str = ""
    _gap: str = ""
    _state: str = "text"
    _begun: bool = False
    _scan: _Brackets = field(default_factory=lambda: _Brackets())

    def push(self, text: str) -> list[Part]:
        """What the next piece of the answer's text says."""
        self._held += text
        parts: list[Part] = []
        while step := getattr(self, f"_read_{self._state}")():
            parts += step[0]
        return parts

    def finish(self) -> list[Part]:
        """What is left at the end. A first call that was cut short before its arguments is the text that it is."""
        held, self._held = self._held, ""
        if self._state == "name" and not self.calls:
            return [Said(self._gap + self.form.start + held)]
        return [Said(held)] if held and self._state == "text" else []

    def _read_text(self) -> tuple[list[Part]] | None:
        """Text up to a call; a gap before it is left out. What may yet be one of these is held back."""
        start = self.form.start
        found = self._held.find(start) if self.form.opener else 0 if self._held.startswith(start) else -1
        if found >= 0 and (self.form.opener or not self._begun):
            said = self._held[:found].rstrip()
            self._gap = self._held[len(said) : found]
            self._held, self._state = self._held[found + len(start) :], "name"
            return ([Said(said)] if said else [],)
        held = self._held[: len(self._held) - self._undecided(start)].rstrip() if self._held else ""
        if not held:
            return None
        self._held, self._begun = self._held[len(held) :], True
        return ([Said(held)],)

    def _undecided(self, start: str) -> int:
        """Length of the end of the held text that may still become the start of a call."""
        if not self.form.opener:
            return len(self._held) if not self._begun and start.startswith(self._held) else 0
        longest = min(len(start) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(start[:n])), 0)

    def _read_name(self) -> tuple[list[Part]] | None:
        heads = [name + self.form.middle for name in self.names]
        head = next((h for h in heads if self._held.startswith(h)), None)
        if head is None:
            if any(h.startswith(self._held) for h in heads):
                return None
            said, self._held = self._gap + self.form.start + self._held, ""
            self._state, self._begun = "text", True  # an answer in JSON that begins as a call does
            return ([Said(said)],)
        self._held, self._state, self._scan = self._held[len(head) :], "arguments", _Brackets()
        self.calls += 1
        name = head.removesuffix(self.form.middle)
        return ([Called(self.calls - 1, f"call_{secrets.token_hex(12)}", name)],)

    def _read_arguments(self) -> tuple[list[Part]] | None:
        if not self._held:
            return None
        length = self._scan.push(self._held)
        text, self._held = self._held[:length], self._held[length:]
        if self._scan.closed:
            self._state = "after"
        return ([Argued(self.calls - 1, text)],)

    def _read_after(self) -> tuple[list[Part]] | None:
        """Between a call and the next one; there is nothing else after a call."""
        if self.form.between is None:
            return None
        start = self.form.between + self.form.head
        found = self._held.find(start, len(self.form.tail))
        if found < 0:
            return None
        self._held, self._state = self._held[found + len(start) :], "name"
        return ([],)


@dataclass
class _Brackets:
    """Where a JSON object or list ends."""

    depth: int = 0
    quoted: bool = False
    escaped: bool = False
    closed: bool = False

    def push(self, text: str) -> int:
        """Number of characters of the text that belong to the value."""
        for place, character in enumerate(text):
            if self.quoted:
                self.quoted = self.escaped or character != '"'
                self.escaped = character == "\\" and not self.escaped
            elif character == '"':
                self.quoted = True
            elif character in "{[":
                self.depth += 1
            elif character in "}]":
                self.depth -= 1
                if self.depth == 0:
                    self.closed = True
                    return place + 1
        return len(text)


def delta_of(part: Part) -> dict[str, Any]:
    """A part as the ``delta`` of OpenAI's stream."""
    if isinstance(part, Said):
        return {"content": part.text}
    if isinstance(part, Called):
        function = {"name": part.name, "arguments": ""}
        return {
            "tool_calls": [{"index": part.index, "id": part.id, "type": "function", "function": function}]
        }
    return {"tool_calls": [{"index": part.index, "function": {"arguments": part.text}}]}


def message_of(parts: list[Part]) -> dict[str, Any]:
    """The fields ``content`` and, where there are any, ``tool_calls`` of OpenAI's message."""
    said = "".join(part.text for part in parts if isinstance(part, Said))
    calls: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Called):
            calls.append(
                {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": ""}}
            )
        elif isinstance(part, Argued):
            calls[part.index]["function"]["arguments"] += part.text
    return {"content": said or None, "tool_calls": calls} if calls else {"content": said}
