"""Pairs of a source text and a target text from JSONL, and their held-out share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from arriero.data.conversations import is_held_out
from arriero.data.jsonl import iter_records
from arriero.errors import ArrieroError, did_you_mean


class TextPair(NamedTuple):
    """What is read, and what is to be written for it."""

    source: str
    target: str


def read_pairs(path: Path, source_field: str, target_field: str) -> list[TextPair]:
    """Pairs from JSONL(.gz), one object a line with the two texts under the names given.

    Raises:
        ArrieroError: the file cannot be read, a line lacks a field or has no text in it, or nothing is in the file.
    """
    pairs = []
    for number, record in iter_records(path):
        texts = []
        for name in (source_field, target_field):
            if name not in record:
                known = ", ".join(record) or "(none)"
                raise ArrieroError(
                    f"{path} line {number}: no field '{name}' among {known}{did_you_mean(name, record)}"
                )
            if not isinstance(record[name], str):
                kind = type(record[name]).__name__
                raise ArrieroError(f"{path} line {number}: {name} should be a string, not {kind}")
            texts.append(record[name])
        pairs.append(TextPair(*texts))
    if not pairs:
        raise ArrieroError(f"{path} is empty; one JSON object a line is expected")
    return pairs


def split_pairs(pairs: Sequence[TextPair], share: float, seed: int) -> tuple[list[TextPair], list[TextPair]]:
    """(train, held out), about ``share`` of the pairs held out; those with the same source stay together."""
    train: list[TextPair] = []
    held: list[TextPair] = []
    for pair in pairs:
        (held if is_held_out(pair.source, share, seed) else train).append(pair)
    return train, held
