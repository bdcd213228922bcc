"""Personal data stays out of samples and pages: what an edit masked is blotted out in the text before edits too."""

from __future__ import annotations

from collections.abc import Iterable

from arriero.data.records import Edit

PII = "pii."
"""Reasons of edits that mask personal data begin so."""
BLOT = "█"


def blot(text: str, edits: Iterable[Edit]) -> str:
    """``text`` with every character that a ``pii.`` edit takes away replaced by a block, so that places stay right.

    >>> blot("to a@b.org", [Edit(3, 10, "<email>", "pii.email")])
    'to ███████'
    """
    spans = sorted((edit.start, edit.end) for edit in edits if edit.reason.startswith(PII))
    parts: list[str] = []
    done = 0
    for start, end in spans:
        start, end = max(start, done), min(end, len(text))
        if end > start:
            parts += text[done:start], BLOT * (end - start)
            done = end
    return "".join([*parts, text[done:]])
