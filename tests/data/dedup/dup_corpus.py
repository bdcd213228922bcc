"""Corpora in parts, made up for tests."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arriero.artifacts.commit import commit_folder, fresh_folder
from arriero.data.audit.schema import ledger_schema
from arriero.data.facts import FactsSettings, measure
from arriero.data.pipeline.part_writer import PartWriter

FACTS = FactsSettings()
_VOCABULARY = [
    f"{a}{b}{c}" for a in "bcdfglmnprst" for b in "aeiou" for c in ("n", "r", "st", "la", "mo", "ck")
]


def words(count: int, seed: int) -> list[str]:
    """Made-up words; other seeds share no long run of them."""
    return random.Random(seed).choices(_VOCABULARY, k=count)


def prose(count: int, seed: int, line: int = 12) -> str:
    """Lines of made-up words."""
    found = words(count, seed)
    return "\n".join(" ".join(found[start : start + line]) for start in range(0, count, line))


def write_part(
    folder: Path, documents: Sequence[str | Mapping[str, Any] | None], facts: FactsSettings = FACTS
) -> Path:
    """A part of texts; None is a refused record; a mapping has ``text`` and columns of the ledger."""
    partial = folder.with_name(folder.name + ".partial")
    schema = ledger_schema([], ["m_quality_test"])
    with fresh_folder(partial), PartWriter(partial, schema, facts.bands * facts.rows) as writer:
        for number, document in enumerate(documents):
            row: dict[str, Any] = {
                "id": f"{folder.name}/{number}", "source": "web", "file": folder.name, "offset": number, "length": 1,
                "in_content": False, "raw_bytes": 1, "text_bytes": 0, "kept_bytes": 0, "stage": "read",
                "reason": "read.truncated", "near_miss": False,
            }  # fmt: skip
            if document is None:
                writer.add(row, None, None)
                continue
            given = {"text": document} if isinstance(document, str) else dict(document)
            text = given.pop("text")
            found = measure(text, facts)
            size = len(text.encode())
            row |= {
                "text_bytes": size,
                "kept_bytes": size,
                "stage": "",
                "reason": "",
                "digest": found.digest,
            } | given
            writer.add(row, {"id": row["id"], "text": text}, found.signature)
        writer.finish({"name": folder.name})
    commit_folder(partial, folder)
    return folder


def write_parts(folder: Path, parts: Sequence[Sequence[Any]], facts: FactsSettings = FACTS) -> list[Path]:
    """Parts named part-000 and on."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_part(folder / f"part-{n:03d}", documents, facts) for n, documents in enumerate(parts)]


def corpus_files(work: Path) -> dict[str, bytes]:
    """What a global step leaves: name -> bytes."""
    kinds = ("decisions", "line_edits")
    found = {
        f"{kind}/{path.name}": path.read_bytes() for kind in kinds for path in sorted((work / kind).iterdir())
    }
    return {**found, "report": (work / "report.json").read_bytes()}
