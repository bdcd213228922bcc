"""The raw bytes that a record came from, read again where the ledger says they are, and whether they still match."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from arriero.data.audit.personal import blot
from arriero.data.records import Edit, Limits, Reader, Record, Refused
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.data.audit.curated import CuratedCorpus

State = Literal["matches", "changed", "gone", "unknown"]


@dataclass(frozen=True)
class RawCheck:
    """``state``: matches (the same bytes give the same text today), changed, gone, or unknown, and why."""

    state: State
    why: str
    path: Path | None = None
    content: bytes | None = None
    """What the record holds, as the reader gives it today."""


def check_raw(
    corpus: CuratedCorpus, ledger: dict[str, Any], text: str | None, base: Path | None = None
) -> RawCheck:
    """Read a record again and compare it with its ledger row.

    Args:
        text: the extracted text before edits, as the corpus keeps it; None for a refused record.
        base: the source's folder (or its one file) today, when not where the manifest says.
    """
    path = raw_path(corpus, ledger, base)
    if path is None:
        return RawCheck(
            "unknown", f"nobody says where the files of source {ledger['source']} are; give --raw"
        )
    if not path.exists():
        return RawCheck("gone", f"{path} is no longer there", path)
    try:
        found = _read(corpus, path, ledger)
    except ArrieroError as error:
        return RawCheck("unknown", str(error), path)
    except OSError as error:
        return RawCheck("gone", f"{path} cannot be read: {error.strerror or error}", path)
    if found is None:
        return RawCheck("changed", f"{path} has no record at {ledger['offset']:,} any more", path)
    if isinstance(found, Refused):
        same = found.reason == ledger["reason"] and found.length == ledger["length"]
        why = (
            f"the record is refused today too: {found.reason}"
            if same
            else f"the record is {found.reason} today"
        )
        return RawCheck("matches" if same else "changed", why, path, _bytes_at(path, ledger))
    content = (
        found.content if isinstance(found.content, bytes) else found.content.encode("utf-8", "surrogatepass")
    )
    return _compare(corpus, ledger, text, path, found, content)


def _compare(
    corpus: CuratedCorpus, ledger: dict[str, Any], text: str | None, path: Path, found: Record, content: bytes
) -> RawCheck:
    for what, today, then in (
        ("length", found.length, ledger["length"]),
        ("bytes of content", len(content), ledger["raw_bytes"]),
    ):
        if today != then:
            return RawCheck(
                "changed",
                f"the record at {ledger['offset']:,} has {today:,} {what}, had {then:,}",
                path,
                content,
            )
    if text is None:
        return RawCheck("matches", "a record of the same length is there; it gave no text", path, content)
    try:
        again = _extract(corpus, found)
    except ArrieroError as error:
        return RawCheck("unknown", f"a record of the same length is there; {error}", path, content)
    edits = [Edit(e["start"], e["end"], "", e["reason"]) for e in ledger["edits"] or []]
    if blot(again, edits) == blot(text, edits):  # the corpus may keep it blotted
        return RawCheck("matches", "the bytes give the same text today", path, content)
    return RawCheck(
        "changed", "a record of the same length is there, but it gives another text today", path, content
    )


def raw_path(corpus: CuratedCorpus, ledger: dict[str, Any], base: Path | None = None) -> Path | None:
    """The raw file of a ledger row; None where neither the manifest nor ``base`` says where it is."""
    from arriero.artifacts.paths import InputTree

    if base is None:
        given = corpus.sources.get(str(ledger["source"]), {}).get("path")
        if not given:
            return None
        base = InputTree(str(given)).base()
        single = Path(str(given))
        if single.name == ledger["file"] and not single.is_dir():
            return single
    if base.is_file() or (base.suffix and not base.is_dir()):
        return base
    return base / str(ledger["file"])


def _read(corpus: CuratedCorpus, path: Path, ledger: dict[str, Any]) -> Record | Refused | None:
    reader = _reader(corpus, str(ledger["source"]), path)
    start, end = (_stream(ledger), None) if ledger["in_content"] else (ledger["offset"], ledger["offset"] + 1)
    for record in reader.read(path, start, end, Limits()):
        if record.offset == ledger["offset"] and _same_id(record.id, str(ledger["id"])):
            found: Record | Refused = record
            return found
        if record.offset > ledger["offset"]:
            return None
    return None


def _stream(ledger: dict[str, Any]) -> int:
    """The file's byte at which the compressed stream begins in which the record lies."""
    meta = json.loads(ledger["meta"]) if ledger["meta"] else {}
    return int(meta.get("stream", 0))


def _reader(corpus: CuratedCorpus, name: str, path: Path) -> Reader:
    """What reads the file, by the source's settings."""
    from pydantic import ValidationError

    from arriero.data.source import Source

    settings = corpus.sources.get(name)
    if settings is None:
        raise ArrieroError(
            f"nobody says how source {name} is read: {corpus.folder} has no manifest that names it"
        )
    try:
        return Source.model_validate({**settings, "path": str(path)}).reader(path)
    except ValidationError as error:
        raise ArrieroError(f"{path} cannot be read as before: {error.errors()[0]['msg']}") from None


def _extract(corpus: CuratedCorpus, record: Record) -> str:
    """The text that the record gives today, normalised as the worker does it."""
    from arriero.data.normalise import normalise

    extractor, limits = corpus.extractor
    found = extractor.extract(record, limits)
    if isinstance(found, Refused):
        raise ArrieroError(f"it is refused today: {found.reason} ({found.detail})")
    return normalise(found.text)


def _same_id(today: str, ledger: str) -> bool:
    """The ledger may put the source's name before the reader's id."""
    return ledger == today or ledger.endswith((":" + today, "/" + today, "#" + today))


def _bytes_at(path: Path, ledger: dict[str, Any]) -> bytes | None:
    if ledger["in_content"]:
        return None
    with path.open("rb") as file:
        file.seek(ledger["offset"])
        return file.read(min(ledger["length"], 1 << 20))
