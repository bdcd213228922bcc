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
    characters = list(text)
    for edit in edits:
        if edit.reason.startswith(PII):
            end = min(edit.end, len(characters))
            characters[edit.start : end] = BLOT * max(end - edit.start, 0)
    return "".join(characters)
