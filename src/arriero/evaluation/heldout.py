"""Held-out conversations and preference pairs, and the guard against testing on what was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from arriero.artifacts import Artifact
from arriero.artifacts.hashing import sha256_file
from arriero.artifacts.lineage import lineage
from arriero.data.conversations import (
    Message,
    Preference,
    read_conversations,
    read_preferences,
    split_holdout,
)
from arriero.errors import ArrieroError

T = TypeVar("T")


def heldout_conversations(paths: Sequence[Path], share: float, seed: int, most: int) -> list[list[Message]]:
    """The held-out share of the conversations in all files, at most ``most`` of them (0 = all)."""
    rows = [row for path in paths for row in read_conversations(path)]
    return _evenly(split_holdout(rows, share, seed)[1], most)


def heldout_preferences(paths: Sequence[Path], share: float, seed: int, most: int) -> list[Preference]:
    """The held-out share of the preference pairs in all files, at most ``most`` of them (0 = all)."""
    rows = [row for path in paths for row in read_preferences(path)]
    return _evenly(split_holdout(rows, share, seed)[1], most)


def _evenly(rows: list[T], most: int) -> list[T]:
    if not most or len(rows) <= most:
        return rows
    return [rows[i * len(rows) // most] for i in range(most)]


def refuse_other_splits(models: Sequence[Artifact], paths: Sequence[Path], share: float, seed: int) -> None:
    """Make sure that nothing called held-out here was trained on.

    Raises:
        ArrieroError: a stage that a model comes from read one of the files with another share or seed.
    """
    files = {sha256_file(path): path for path in paths}
    for model in models:
        for ancestor in lineage(model):
            if ancestor.artifact is None:
                continue
            manifest = ancestor.artifact.manifest
            same = [files[source.sha256] for source in manifest.sources if source.sha256 in files]
            if not same or "holdout_share" not in manifest.settings:
                continue
            theirs = (manifest.settings["holdout_share"], manifest.settings.get("holdout_seed", seed))
            if theirs != (share, seed):
                raise ArrieroError(
                    f"{same[0].name}: stage '{manifest.name}' held out {theirs[0]:g} of it (seed {theirs[1]}), this "
                    f"evaluation {share:g} (seed {seed}); with different splits the model was trained on what is "
                    "tested: give both the same holdout_share and holdout_seed"
                )
