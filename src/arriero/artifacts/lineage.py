"""Lineage: from an artifact back to the raw files it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from arriero.artifacts.artifact import Artifact
from arriero.artifacts.manifest import SourceRecord
from arriero.errors import ArrieroError


@dataclass(frozen=True)
class Ancestor:
    """One step of a lineage. ``artifact`` is None when the folder is no longer there."""

    depth: int
    role: str
    name: str
    kind: str
    key: str
    artifact: Artifact | None


def lineage(artifact: Artifact) -> Iterator[Ancestor]:
    """The artifact and everything it was made from, depth first, each artifact once."""
    seen: set[str] = set()

    def walk(current: Artifact, role: str, depth: int) -> Iterator[Ancestor]:
        manifest = current.manifest
        yield Ancestor(depth, role, manifest.name, manifest.kind, manifest.key, current)
        if manifest.key in seen:
            return
        seen.add(manifest.key)
        for record in manifest.inputs:
            folder: Path = (current.path / record.path).resolve()
            try:
                parent = Artifact.open(folder)
            except ArrieroError:
                yield Ancestor(depth + 1, record.role, record.name, record.kind, record.key, None)
                continue
            yield from walk(parent, record.role, depth + 1)

    yield from walk(artifact, "", 0)


def raw_sources(artifact: Artifact) -> list[SourceRecord]:
    """Every raw file in the lineage, each once."""
    found: dict[str, SourceRecord] = {}
    for ancestor in lineage(artifact):
        if ancestor.artifact is not None:
            for source in ancestor.artifact.manifest.sources:
                found.setdefault(source.sha256, source)
    return list(found.values())
