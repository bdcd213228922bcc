"""Which documents of a corpus a tokenizer is learnt from and scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from arriero.errors import Interrupted
from arriero.stage import Context
from arriero.tokenization.texts import iter_texts

SCORED_BYTES = 4_000_000
"""Text on which bytes per token are counted, of each split."""


class Sample:
    """The training texts up to a number of bytes: documents chosen by a hash of their text, so that the choice
    depends neither on their order nor on a seed. Counts what it gave out."""

    def __init__(self, folder: Path, total_bytes: int, max_bytes: int, context: Context) -> None:
        self._folder, self._total, self._max, self._context = folder, total_bytes, max_bytes, context
        self.documents = self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        share = min(1.0, self._max / max(self._total, 1))
        for text in iter_texts(self._folder, "train"):
            size = len(text.encode())
            if share < 1 and (not _drawn(text, share) or self.bytes + size > self._max):
                continue
            if self._context.stop_requested():
                raise Interrupted(
                    "stopped while reading the text; nothing is lost, it starts over in seconds"
                )
            self.documents += 1
            self.bytes += size
            self._context.progress(self.bytes, min(self._total, self._max), "B")
            yield text


def _drawn(text: str, share: float) -> bool:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") < share * 2**64


def some_texts(folder: Path, split: str, total_bytes: int) -> Iterator[str]:
    """About SCORED_BYTES of a split's texts, from all over it."""
    share = min(1.0, SCORED_BYTES / max(total_bytes, 1))
    return (text for text in iter_texts(folder, split) if share == 1 or _drawn(text, share))
