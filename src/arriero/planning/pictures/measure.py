"""How wide a text is, in a picture and in a terminal, and texts that fit.

A picture does not know which font its reader has; widths here are those of DejaVu Sans, the widest of the
sans-serif fonts that systems come with, so that what has room here has room everywhere.
"""

from __future__ import annotations

import unicodedata

_EMS = {
    29: "'ijl", 33: " ,.I·", 36: "/:;\\|f", 42: "-()[]t!r", 50: "\"*J`sz–°", 58: "?L_kc", 62: "FTaeovxy",
    66: "0123456789bdghnpqu${}µEKPSY", 70: "ABVXZ", 79: "CRUNH&DGOQ", 87: "#+<=>^~wM×→±≤≥−", 102: "%mW@—…",
}  # fmt: skip
_WIDTH = {letter: ems / 100 for ems, letters in _EMS.items() for letter in letters}
_LETTER, _WIDE = 0.8, 1.1
"""Ems of a letter that the table does not have, and of one that takes two cells in a terminal."""
_BOLD = 1.14


def clean(text: str) -> str:
    """``text`` on one line, with what is no character (control codes, half surrogates, marks that turn the
    direction of writing) shown as such: neither XML nor a terminal can be led astray by a name."""
    words = " ".join(text.split())
    return "".join("�" if unicodedata.category(letter)[0] == "C" else letter for letter in words)


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """An upper bound of the width of a text, in the units of its font size."""
    ems = sum(_WIDTH.get(letter) or _other(letter) for letter in text)
    return ems * size * (_BOLD if bold else 1.0)


def _other(letter: str) -> float:
    if unicodedata.combining(letter):
        return 0.0
    return _WIDE if _is_wide(letter) else _LETTER


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"


def fitted(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """``text``, or as much of its beginning as has room before an ellipsis."""
    text = clean(text)
    if text_width(text, size, bold=bold) <= room:
        return text
    while text and text_width(text + "…", size, bold=bold) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def cells(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(0 if unicodedata.combining(letter) else 2 if _is_wide(letter) else 1 for letter in text)


def column(text: str, width: int, *, right: bool = False) -> str:
    """``text`` in exactly ``width`` columns of a terminal: padded, or cut with an ellipsis."""
    text = clean(text)
    if cells(text) > width:
        while text and cells(text) > width - 1:
            text = text[:-1]
        text += "…" if width else ""
    gap = " " * (width - cells(text))
    return gap + text if right else text + gap


def brief(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns of a terminal."""
    return column(text, width).rstrip()
