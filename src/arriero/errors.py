"""Errors a user can act on: one clear line and an exit code, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArrieroError(Exception):
    """Bad input or a condition the user can put right. The message is one line: what, where, what would be right."""

    exit_code = 2


class BudgetError(ArrieroError):
    """The plan's upper end is over a limit that the user set; nothing has started."""

    exit_code = 3


class DamagedArtifactError(ArrieroError):
    """A file of an artifact is missing, cut short or changed."""


class Interrupted(ArrieroError):  # noqa: N818 - it is a request granted, not a fault
    """The run was asked to stop and has saved its state; the same command continues it.

    The exit code is EX_TEMPFAIL of sysexits.h: "try again".
    """

    exit_code = 75


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to ``word``, or None when nothing is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known word, else the list of known words (if short)."""
    known = sorted(known)
    best = nearest(word, known)
    if best:
        return f"; did you mean '{best}'?"
    return f"; known: {', '.join(known)}" if 0 < len(known) <= 24 else ""
