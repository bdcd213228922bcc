"""Texts with numbers from JSONL: what a text is scored with, where it was written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arriero.data.jsonl import iter_records
from arriero.errors import ArrieroError, did_you_mean


class NumberedText(NamedTuple):
    """A text, and its numbers in the order of their fields; NaN: not known."""

    text: str
    numbers: tuple[float, ...]


def read_numbered_texts(path: Path, text_field: str, number_fields: Sequence[str]) -> list[NumberedText]:
    """Texts from JSONL(.gz), one object a line; a number that is null or missing is not known.

    Raises:
        ArrieroError: the file cannot be read, a line lacks its text, all its numbers, or has something else there.
    """
    found = []
    for number, record in iter_records(path):
        where = f"{path} line {number}"
        text = record.get(text_field)
        if not isinstance(text, str):
            raise ArrieroError(
                f"{where}: no text in a field '{text_field}'{did_you_mean(text_field, record)}"
            )
        values = tuple(_number(record.get(name), name, where) for name in number_fields)
        if all(math.isnan(value) for value in values):
            hint = did_you_mean(number_fields[0], record)
            raise ArrieroError(f"{where}: none of the numbers {', '.join(number_fields)} is there{hint}")
        found.append(NumberedText(text, values))
    if not found:
        raise ArrieroError(f"{path} is empty; one JSON object a line is expected")
    return found


def _number(value: Any, name: str, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ArrieroError(f"{where}: {name} should be a finite number, not {value!r}")
    return float(value)
