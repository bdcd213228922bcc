"""Which part of a rendered conversation the assistant says, where the chat template doesn't mark it itself.

The conversation is rendered turn by turn: what a turn adds to the prompt that a server would send is its answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arriero.errors import ArrieroError
from arriero.tokenization.marks import Layout

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], bool], Layout]
_NEVER_RIGHT = "no mask of supervised tokens can be right: mark answers with {% generation %} in the template"


def infer_answers(
    messages: Sequence[Message], whole: Layout, render: Render, special: re.Pattern[str]
) -> list[tuple[int, int]]:
    """Spans of the answers in ``whole.text``: the content and the end of the turn after it, never a header.

    Args:
        render: (messages, add_generation_prompt) -> layout. special: what matches a special token.

    Raises:
        ArrieroError: turn by turn the template gives another text than for the whole conversation.
    """
    return [
        _answer(messages[: number + 1], number + 1, whole, render, special)
        for number, message in enumerate(messages)
        if message["role"] == "assistant"
    ]


def _answer(
    turns: Sequence[Message], number: int, whole: Layout, render: Render, special: re.Pattern[str]
) -> tuple[int, int]:
    told = render(turns, False)
    content = turns[-1]["content"].strip()
    if not told.contents or told.text[slice(*told.contents[-1])].strip() != content:
        raise ArrieroError(
            f"the chat template does not end with the content of message {number}; {_NEVER_RIGHT}"
        )
    content_start, content_end = told.contents[-1]
    start = min(content_start, _prompt_end(turns[:-1], told, number, render) or content_start)
    end = _end_of_turn(told.text, content_end, special)
    if whole.text[:end] != told.text[:end]:
        raise ArrieroError(f"the chat template changes message {number} when others follow; {_NEVER_RIGHT}")
    return start, end


def _prompt_end(turns: Sequence[Message], told: Layout, number: int, render: Render) -> int | None:
    """Where the served prompt ends, None when the template has no header for the answer to come."""
    if not turns:
        return None
    prompt, without = render(turns, True).text, render(turns, False).text
    if prompt == without:
        return None
    if not told.text.startswith(prompt):
        raise ArrieroError(
            f"the chat template asks for message {number} in other words than it tells it; {_NEVER_RIGHT}"
        )
    return len(prompt)


def _end_of_turn(text: str, content_end: int, special: re.Pattern[str]) -> int:
    """The end of the special token after the content, or of what stands there without a space."""
    found = special.search(text, content_end)
    if found and not text[content_end : found.start()].strip():
        return found.end()
    return re.compile(r"\S*").match(text, content_end).end()  # type: ignore[union-attr]
