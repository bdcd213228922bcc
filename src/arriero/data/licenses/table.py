"""The licences that are known by their text: a sketch of each, made from the text itself.

The table holds hashes, not texts. ``python -m arriero.data.licenses.table FOLDER`` makes it anew from a folder of
``<SPDX identifier>.txt``. The present one was made from the texts that Debian (common-licenses), the Rust toolchain
and packages of Python and npm install; AGPL-3.0 from GPL-3.0 with the names exchanged and its own section 13,
BSD-4-Clause from BSD-3-Clause with the advertising clause, MIT-0 from MIT without the condition.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from arriero.data.licenses.words import shingles, words

_FILE = "sketches.json"
_HASHES = 320
"""Hashes kept of a text: its smallest. The share of a licence in a text is then known to about 2 points."""


@dataclass(frozen=True)
class Sketch:
    """A licence: the smallest hashes of its word sequences, and how many there are in all."""

    id: str
    hashes: frozenset[int]
    size: int


@cache
def sketches() -> tuple[Sketch, ...]:
    """All known licences, by identifier."""
    table = json.loads(files(__package__).joinpath(_FILE).read_text("utf-8"))
    return tuple(
        Sketch(id, frozenset(np.frombuffer(base64.b64decode(kept), "<u4").tolist()), size)
        for id, (size, kept) in table.items()
    )


def make(folder: Path) -> dict[str, tuple[int, str]]:
    """The table of a folder's texts."""
    table = {}
    for file in sorted(folder.glob("*.txt")):
        hashes = sorted(shingles(words(file.read_text("utf-8"))))
        kept = np.array(hashes[:_HASHES], "<u4").tobytes()
        table[file.stem] = len(hashes), base64.b64encode(kept).decode()
    return table


if __name__ == "__main__":
    target = Path(__file__).with_name(_FILE)
    target.write_text(json.dumps(make(Path(sys.argv[1])), indent=0) + "\n", "utf-8")
