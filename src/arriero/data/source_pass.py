"""One source through normalisation and rules, and what de-duplication needs of it, kept on disk.

The result of a pass is a folder that is there whole or not at all; a curation that was killed goes on after the
last whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import commit_folder, fresh_folder, write_json_atomic
from arriero.data.documents import Document, Source, Undecodable, read_source
from arriero.data.drops import Drop, SourceAccount
from arriero.data.facts import Facts
from arriero.data.jsonl import iter_records, open_writer, write_record
from arriero.data.minhash import MinHash, Shingler
from arriero.data.normalise import normalise
from arriero.data.rules import Rules, Verdict, judge

_DOCUMENTS, _DROPS, _ACCOUNT, _TABLE = "documents.jsonl.gz", "drops.jsonl.gz", "account.json", "table.npy"
_SHINGLES, _SIGNATURES = "shingles.u64", "signatures.u32"
_ROW = np.dtype([
    ("digest", "V16"), ("characters", "<i8"), ("raw_bytes", "<i8"), ("text_bytes", "<i8"), ("shingle_end", "<i8"),
])  # fmt: skip


def decide(text: str, rules: Rules) -> Verdict | None:
    """The rule that a normalised text breaks, or None."""
    return judge(Facts(text), rules) if text else Verdict("empty", 0, 1)


class SourcePass:
    """The finished pass of one source: documents that kept the rules, numbered from 0, and their drops."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.account = SourceAccount(**json.loads((folder / _ACCOUNT).read_bytes()))
        table = np.load(folder / _TABLE, allow_pickle=False)
        self.digests: list[bytes] = [bytes(digest) for digest in table["digest"]]
        self.characters: NDArray[np.int64] = table["characters"]
        self.raw_bytes: NDArray[np.int64] = table["raw_bytes"]
        self.text_bytes: NDArray[np.int64] = table["text_bytes"]
        self._shingle_ends: NDArray[np.int64] = np.concatenate(([0], table["shingle_end"]))
        self._shingles = _load(folder / _SHINGLES, np.dtype("<u8"))

    def __len__(self) -> int:
        return len(self.digests)

    def signatures(self, width: int) -> NDArray[np.uint32]:
        """uint32[n, width]"""
        return _load(self._folder / _SIGNATURES, np.dtype("<u4")).reshape(len(self), width)

    def shingles(self, number: int) -> NDArray[np.uint64]:
        """uint64[.], sorted: the hashed shingles of a document."""
        return self._shingles[self._shingle_ends[number] : self._shingle_ends[number + 1]]

    def documents(self) -> Iterator[Document]:
        """The documents, in order."""
        return (Document.of_record(record) for _, record in iter_records(self._folder / _DOCUMENTS))

    def drops(self) -> Iterator[dict[str, Any]]:
        """Records of what the rules dropped."""
        return (record for _, record in iter_records(self._folder / _DROPS))


def run_source_pass(
    source: Source,
    rules: Rules,
    hashes: tuple[Shingler, MinHash] | None,
    folder: Path,
    tick: Callable[[int], None],
) -> SourcePass:
    """Do the pass, or take up the finished one in ``folder``.

    ``hashes``: None when near-duplicates are not looked for. ``tick`` is called with the bytes of text read so far
    and may raise to stop.
    """
    if folder.exists():
        return SourcePass(folder)
    partial = folder.with_name(folder.name + ".partial")
    with fresh_folder(partial), _Writer(partial, source.name, hashes) as writer:
        for document in read_source(source):
            writer.take(document, rules)
            tick(writer.account.bytes_in)
    commit_folder(partial, folder)
    return SourcePass(folder)


class _Writer:
    """Writes the files of a pass."""

    def __init__(self, folder: Path, source: str, hashes: tuple[Shingler, MinHash] | None) -> None:
        self._folder = folder
        self._hashes = hashes
        self._rows: list[tuple[bytes, int, int, int, int]] = []
        self._n_shingles = 0
        self.account = SourceAccount(source)

    def __enter__(self) -> _Writer:
        self._stack = ExitStack()
        self._documents: IO[str] = self._stack.enter_context(open_writer(self._folder / _DOCUMENTS, level=1))
        self._drops: IO[str] = self._stack.enter_context(open_writer(self._folder / _DROPS, level=1))
        self._shingles = self._stack.enter_context((self._folder / _SHINGLES).open("wb"))
        self._signatures = self._stack.enter_context((self._folder / _SIGNATURES).open("wb"))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stack.close()
        if kind is None:
            np.save(self._folder / _TABLE, np.array(self._rows, _ROW), allow_pickle=False)
            write_json_atomic(self._folder / _ACCOUNT, asdict(self.account))

    def take(self, document: Document | Undecodable, rules: Rules) -> None:
        """Normalise, judge, and write down the document or its drop."""
        if isinstance(document, Undecodable):
            self.account.take(document.bytes)
            self._drop(
                Drop(document.id, document.source, "bad_utf8", 1, 0, None, document.head), document.bytes
            )
            return
        raw_bytes = len(document.text.encode())
        self.account.take(raw_bytes)
        text = normalise(document.text)
        verdict = decide(text, rules)
        if verdict is not None:
            reason = (verdict.reason, verdict.value, verdict.threshold)
            self._drop(Drop(document.id, document.source, *reason, None, text), raw_bytes)
            return
        self._keep(document, text, raw_bytes)

    def _drop(self, drop: Drop, raw_bytes: int) -> None:
        write_record(self._drops, drop.record())
        self.account.drop(drop.reason, raw_bytes)

    def _keep(self, document: Document, text: str, raw_bytes: int) -> None:
        encoded = text.encode()
        if self._hashes is not None:
            shingler, minhash = self._hashes
            shingles = shingler.shingles(text)
            self._shingles.write(shingles.astype("<u8").tobytes())
            self._signatures.write(minhash.signature(shingles).astype("<u4").tobytes())
            self._n_shingles += len(shingles)
        digest = hashlib.blake2b(encoded, digest_size=16).digest()
        self._rows.append((digest, len(text), raw_bytes, len(encoded), self._n_shingles))
        write_record(self._documents, {**document.record(), "text": text})


def _load(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)
