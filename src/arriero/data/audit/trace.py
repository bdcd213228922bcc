"""From a training token, a document's id or a piece of text back to the record it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from arriero.artifacts.artifact import Artifact
from arriero.data.audit.curated import SPLITS, CuratedCorpus, Row
from arriero.data.audit.raw import RawCheck, check_raw
from arriero.data.records import Edit
from arriero.data.shards import TokenShards, read_meta
from arriero.data.tokenize import tokenizer_folder
from arriero.errors import ArrieroError

_AROUND = 60
"""Characters shown on each side of a token."""


@dataclass(frozen=True)
class TokenPlace:
    """A token of a split: its document, its place there, and the text around it."""

    split: str
    offset: int
    document: int
    position: int
    """Tokens of the document before it, BOS counted."""
    id: int
    token: str
    before: str
    after: str
    character: int
    """Where the token begins in the document's text."""
    copy: int = 0
    """Which copy of the document this is, from 0, where documents are taken several times."""
    copies: int = 1


@dataclass(frozen=True)
class Trace:
    """Everything that is known of one document, from the corpus back to the bytes of the raw file."""

    corpus: Path
    row: Row
    ledger: dict[str, Any]
    decision: dict[str, Any] | None
    """What a global step decided; None: nothing."""
    edits: list[Edit]
    """Of the worker, in the extracted text."""
    line_edits: list[Edit]
    """Of the global steps, in the text after the worker's edits."""
    texts: tuple[str, str, str] | None
    """Extracted, after the worker's edits, as in the corpus."""
    raw: RawCheck
    token: TokenPlace | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """``kept``, or the reason why not."""
        if self.decision is not None:
            return str(self.decision["step"])
        return str(self.ledger["reason"]) if self.ledger["stage"] else "kept"


def trace_row(
    corpus: CuratedCorpus, row: Row, *, raw: Path | None = None, token: TokenPlace | None = None
) -> Trace:
    """All of one record.

    Args:
        raw: where the source's files lie today, when not where the manifest says.
    """
    ledger = corpus.ledger_row(row)
    decision = corpus.decision(row)
    edits = [Edit(e["start"], e["end"], e["replacement"], e["reason"]) for e in ledger["edits"] or []]
    texts = corpus.texts(row)
    check = check_raw(corpus, ledger, texts[0] if texts else None, raw)
    return Trace(corpus.folder, row, ledger, decision, edits, corpus.line_edits(row), texts, check, token)


def trace_id(corpus: CuratedCorpus, id: str, raw: Path | None = None) -> Trace:
    """The document of that identifier.

    Raises:
        ArrieroError: there is none.
    """
    row = corpus.find(id)
    if row is None:
        raise ArrieroError(f"{corpus.folder} has no record with the id '{id}'")
    return trace_row(corpus, row, raw=raw)


def find_text(corpus: CuratedCorpus, snippet: str, limit: int = 20) -> list[Row]:
    """The first records, kept or not, whose text holds the snippet; white space counts as one space.

    Raises:
        ArrieroError: the snippet is empty.
    """
    wanted = " ".join(snippet.split())
    if not wanted:
        raise ArrieroError("the piece of text to look for is empty")
    return list(islice(_with_text(corpus, wanted), limit))


def _with_text(corpus: CuratedCorpus, wanted: str) -> Iterator[Row]:
    longest = max(wanted.split(), key=len)
    for number, part in enumerate(corpus.parts):
        for row, found in part.texts():
            texts = [found["text"], found.get("before") or ""]
            if any(longest in text and wanted in " ".join(text.split()) for text in texts):
                yield Row(part, row, int(corpus.starts[number]) + row)


def trace_token(tokens: Path, offset: int, split: str = "train", raw: Path | None = None) -> Trace:
    """The document that a token of a training set comes from.

    Args:
        tokens: folder of a tokens artifact, or of a mixture of them.
        offset: number of the token in the split, from 0.

    Raises:
        ArrieroError: no such token, or the corpus is no longer there.
        DamagedArtifactError: a file is damaged, or the corpus is another than the tokens were made from.
    """
    shards = TokenShards.open(tokens, split)
    if not 0 <= offset < shards.n_tokens:
        raise ArrieroError(
            f"the split '{split}' of {tokens} has {shards.n_tokens:,} tokens; there is no {offset:,}"
        )
    document = int(np.searchsorted(shards.documents_starts, offset, "right")) - 1
    folder, own_document = _of_source(Path(tokens), split, document)
    corpus = CuratedCorpus(_corpus_of(folder))
    found, copy, copies = _document(corpus, folder, split, own_document)
    if found is None:
        raise ArrieroError(
            f"{corpus.folder} has no document {own_document:,} in the split '{split}'; was it made anew?"
        )
    row = corpus.find(str(found["id"]))
    if row is None:
        raise ArrieroError(f"the ledger of {corpus.folder} has no record '{found['id']}'")
    token = replace(_place(Path(tokens), shards, split, offset, document), copy=copy, copies=copies)
    trace = trace_row(corpus, row, raw=raw, token=token)
    text = str(found["text"])
    if trace.texts is None or trace.texts[2] != text:
        trace.notes.append("the corpus's text is not the ledger's: the corpus was changed after it was made")
    if not _same_text(Path(tokens), shards, document, text):
        trace.notes.append(
            "the tokens do not decode to the corpus's text (the tokenizer may not keep all of it)"
        )
    return trace


def _document(
    corpus: CuratedCorpus, tokens: Path, split: str, number: int
) -> tuple[dict[str, Any] | None, int, int]:
    """The document of the corpus that became a document of the tokens, which of its copies that is, and of how many."""
    manifest = Artifact.open(tokens).manifest
    if split != SPLITS[0] or not manifest.settings.get("quality"):
        return next(islice(corpus.documents(split), number, None), None), 0, 1
    from arriero.data.quality.pick import Picker, pick_jobs
    from arriero.data.quality.settings import QualitySettings

    settings = QualitySettings.model_validate(manifest.settings["quality"])
    files = corpus.shards(split)
    for job in pick_jobs(settings, manifest.seed, corpus.folder, files):
        for picked in Picker(job).picked():
            if not number:
                return picked.document.record(), picked.copy, picked.copies
            number -= 1
    return None, 0, 1


def _of_source(tokens: Path, split: str, document: int) -> tuple[Path, int]:
    """The tokens artifact that holds a document of a mixture, and the document's number there."""
    meta = read_meta(tokens)
    if not meta.mixture:
        return tokens, document
    artifact = Artifact.open(tokens)
    folders = [path for role, path in artifact.inputs() if role == "tokens"]
    for (name, source), folder in zip(meta.mixture.items(), folders, strict=True):
        own = source.splits[split].documents if split in source.splits else 0
        if document < own:
            if not folder.is_dir():
                raise ArrieroError(f"the tokens of '{name}' are no longer at {folder}")
            return folder, document
        document -= own
    raise ArrieroError(f"{tokens} has not so many documents in the split '{split}'")


def _corpus_of(tokens: Path) -> Path:
    folder = next((path for role, path in Artifact.open(tokens).inputs() if role == "corpus"), None)
    if folder is None:
        raise ArrieroError(f"{tokens} does not say which corpus it was made from")
    if not folder.is_dir():
        raise ArrieroError(f"the corpus that {tokens} was made from is no longer at {folder}")
    return folder


def _place(tokens: Path, shards: TokenShards, split: str, offset: int, document: int) -> TokenPlace:
    from arriero.tokenization.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tokenizer_folder(tokens))
    ids = [int(id) for id in shards.document(document)]
    position = offset - int(shards.documents_starts[document])
    before, token, after = (
        tokenizer.decode_bytes(part).decode("utf-8", "replace")
        for part in (ids[:position], ids[position : position + 1], ids[position + 1 : position + 1 + _AROUND])
    )
    shown = token or {
        tokenizer.bos_id: "<beginning of the document>",
        tokenizer.eos_id: "<end of the document>",
    }.get(ids[position], "")
    return TokenPlace(
        split,
        offset,
        document,
        position,
        ids[position],
        shown,
        before[-_AROUND:],
        after[:_AROUND],
        len(before),
    )


def _same_text(tokens: Path, shards: TokenShards, document: int, text: str) -> bool:
    from arriero.tokenization.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tokenizer_folder(tokens))
    return tokenizer.decode_bytes([int(id) for id in shards.document(document)]) == text.encode()
