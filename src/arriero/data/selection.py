"""From the passes of all sources to the corpus: duplicates out, split, files written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arriero.data.corpus import DROPPED_FILE, SPLITS
from arriero.data.drops import Drop, SourceAccount, total_account
from arriero.data.duplicates import Duplicate, exact_duplicates, near_duplicates
from arriero.data.jsonl import open_writer, write_record
from arriero.data.minhash import MinHash
from arriero.data.source_pass import SourcePass
from arriero.data.split import validation_mask
from arriero.tokenization.texts import corpus_file

if TYPE_CHECKING:
    from arriero.data.curate import Dedup

Tick = Callable[[int, int], None]
"""Called with (documents done, of how many); may raise to stop."""


@dataclass(frozen=True)
class Selection:
    """What becomes of every document that kept the rules; documents are numbered through all sources."""

    duplicates: dict[int, Duplicate]
    kept: NDArray[np.bool_]
    validation: NDArray[np.bool_]
    """Of the kept ones; False elsewhere."""
    has_validation: bool

    def splits(self) -> dict[str, NDArray[np.bool_]]:
        """Split -> mask over all documents."""
        masks = dict(zip(SPLITS, (self.kept & ~self.validation, self.validation), strict=True))
        return masks if self.has_validation else {SPLITS[0]: masks[SPLITS[0]]}

    def accounts(self, passes: list[SourcePass]) -> list[SourceAccount]:
        """The closed account of every source, and their total last."""
        accounts = []
        number = 0
        for one in passes:
            account = total_account([one.account])
            account.source = one.account.source
            for position in range(len(one)):
                raw_bytes = int(one.raw_bytes[position])
                if number in self.duplicates:
                    account.drop(self.duplicates[number].reason, raw_bytes)
                else:
                    account.keep(raw_bytes, int(one.text_bytes[position]))
                number += 1
            account.check()
            accounts.append(account)
        total = total_account(accounts)
        total.check()
        return [*accounts, total]


def select(
    passes: list[SourcePass], dedup: Dedup, validation_share: float, seed: int, tick: Tick
) -> Selection:
    """Find duplicates over all sources, then split what is left.

    Where the first of several equal texts falls to a near-duplicate, the others fall to the same survivor.
    """
    digests = [digest for one in passes for digest in one.digests]
    duplicates = exact_duplicates(digests) if dedup.exact else {}
    if dedup.threshold is not None:
        rest = np.array([n for n in range(len(digests)) if n not in duplicates], np.int64)
        near = _near(passes, rest, dedup, dedup.threshold, tick)
        duplicates = {n: near.get(d.survivor) or d for n, d in duplicates.items()} | near
    kept = np.ones(len(digests), np.bool_)
    kept[list(duplicates)] = False
    validation = np.zeros(len(digests), np.bool_)
    survivors = np.flatnonzero(kept)
    validation[survivors] = validation_mask([digests[n] for n in survivors], validation_share, seed)
    return Selection(duplicates, kept, validation, has_validation=validation_share > 0)


def _near(
    passes: list[SourcePass], documents: NDArray[np.int64], dedup: Dedup, threshold: float, tick: Tick
) -> dict[int, Duplicate]:
    if not documents.size:
        return {}
    minhash = MinHash(dedup.bands, dedup.rows)
    starts = np.cumsum([0, *map(len, passes)])

    def shingles(number: int) -> NDArray[np.uint64]:
        source = int(np.searchsorted(starts, number, "right")) - 1
        return passes[source].shingles(number - int(starts[source]))

    return near_duplicates(
        documents,
        np.concatenate([one.characters for one in passes]),
        np.concatenate([one.signatures(dedup.bands * dedup.rows) for one in passes]),
        shingles,
        minhash,
        threshold,
        lambda done: tick(done, len(documents)),
    )


def write_corpus(
    passes: list[SourcePass], selection: Selection, folder: Path, tick: Tick
) -> dict[str, list[str]]:
    """Write the splits and the record of drops; returns source -> licences of its kept documents."""
    masks = selection.splits()
    ids = _ids_of_survivors(passes, selection)
    licenses: dict[str, dict[str, None]] = {}
    number = 0
    with ExitStack() as stack:
        files = {split: stack.enter_context(open_writer(corpus_file(folder, split))) for split in masks}
        dropped: IO[str] = stack.enter_context(open_writer(folder / DROPPED_FILE))
        for one in passes:
            for record in one.drops():
                write_record(dropped, record)
            for document in one.documents():
                duplicate = selection.duplicates.get(number)
                if duplicate is None:
                    split = next(split for split, mask in masks.items() if mask[number])
                    write_record(files[split], document.record())
                    licenses.setdefault(document.source, {})[document.license] = None
                else:
                    figures = (
                        duplicate.reason,
                        duplicate.similarity,
                        duplicate.threshold,
                        ids[duplicate.survivor],
                    )
                    write_record(
                        dropped, Drop(document.id, document.source, *figures, document.text).record()
                    )
                number += 1
                tick(number, len(selection.kept))
    return {source: list(names) for source, names in licenses.items()}


def _ids_of_survivors(passes: list[SourcePass], selection: Selection) -> dict[int, str]:
    wanted = {duplicate.survivor for duplicate in selection.duplicates.values()}
    if not wanted:
        return {}
    documents = (document for one in passes for document in one.documents())
    return {number: document.id for number, document in enumerate(documents) if number in wanted}
