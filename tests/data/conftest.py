"""Stand-ins for what a run gives to a stage."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arriero.artifacts import Artifact, Manifest


class FakeContext:
    """Keeps what a stage reports; ``stop_after`` ends it after so many questions whether to stop."""

    def __init__(self, root: Path, stop_after: int | None = None) -> None:
        self.folder, self.state, self.seed = root / "folder", root / "state", 7
        self.folder.mkdir(parents=True)
        self.state.mkdir(exist_ok=True)
        self.said: list[str] = []
        self.reports: list[tuple[float, float | None, str]] = []
        self._left = stop_after

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        self.reports.append((done, total, unit))

    def log(self, **figures: Any) -> None:
        json.dumps(figures)

    def say(self, line: str) -> None:
        self.said.append(line)

    def stop_requested(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0

    def count_flops(self, flops: float) -> None:
        raise AssertionError("no arithmetic is expected here")


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., FakeContext]:
    counter = itertools.count()
    return lambda **options: FakeContext(tmp_path / f"run{next(counter)}", **options)


@pytest.fixture
def corpus_artifact(tmp_path: Path) -> Callable[..., Artifact]:
    """Make a corpus artifact of texts by split."""

    def make(**splits: list[str]) -> Artifact:
        folder = tmp_path / "corpus"
        folder.mkdir(exist_ok=True)
        for split, texts in splits.items():
            with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
                for number, text in enumerate(texts):
                    record = {
                        "id": str(number),
                        "text": text,
                        "source": "s",
                        "url": None,
                        "license": "CC0-1.0",
                        "lang": None,
                    }
                    file.write(json.dumps({**record, "meta": {}}, ensure_ascii=False) + "\n")
        sizes = {
            split: {"documents": len(t), "bytes": sum(len(x.encode()) for x in t)}
            for split, t in splits.items()
        }
        return Artifact(folder, manifest("curate", "corpus", {"type": "corpus", "splits": sizes}))

    return make


def manifest(kind: str, makes: str, spec: dict[str, Any]) -> Manifest:
    return Manifest(
        name=kind,
        kind=kind,
        makes=makes,
        key="k",
        stage_version=1,
        settings={},
        seed=0,
        spec=spec,
        started="",
        ended="",
    )


@pytest.fixture
def make_manifest() -> Callable[[str, str, dict[str, Any]], Manifest]:
    """(kind, type of artifact, spec) -> a manifest."""
    return manifest
