"""Held-out conversations and preference pairs, and the guard against testing on what was trained on."""

from __future__ import annotations

from collections.abc import Sequence
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
from arriero.evaluation.settings import EvaluateSettings

T = TypeVar("T")


def heldout_conversations(settings: EvaluateSettings) -> list[list[Message]]:
    """The held-out conversations of all files, at most ``max_items``, with the system prompt put in."""
    rows = [row for path in settings.conversations for row in read_conversations(path)]
    held = split_holdout(rows, settings.holdout_share, settings.holdout_seed)[1]
    system = {"role": "system", "content": settings.system_prompt}
    return [
        [system, *row] if settings.system_prompt and row[0]["role"] != "system" else row
        for row in _evenly(held, settings.max_items)
    ]


def heldout_preferences(settings: EvaluateSettings) -> list[Preference]:
    """The held-out preference pairs of all files, at most ``max_items``; equal answers say nothing and are left out."""
    rows = [
        row for path in settings.preferences for row in read_preferences(path) if row.chosen != row.rejected
    ]
    return _evenly(split_holdout(rows, settings.holdout_share, settings.holdout_seed)[1], settings.max_items)


def _evenly(rows: list[T], most: int) -> list[T]:
    if not most or len(rows) <= most:
        return rows
    return [rows[i * len(rows) // most] for i in range(most)]


def refuse_other_splits(models: Sequence[Artifact], settings: EvaluateSettings) -> None:
    """Make sure that nothing called held-out here was trained on.

    Raises:
        ArrieroError: a stage that a model comes from read one of the files with another share or seed.
    """
    files = {sha256_file(path): path for path in (*settings.conversations, *settings.preferences)}
    own = (settings.holdout_share, settings.holdout_seed)
    for model in models:
        for ancestor in lineage(model):
            manifest = ancestor.artifact.manifest if ancestor.artifact is not None else None
            if manifest is None or "holdout_share" not in manifest.settings or manifest.kind == "evaluate":
                continue
            theirs = (
                manifest.settings["holdout_share"],
                manifest.settings.get("holdout_seed", settings.holdout_seed),
            )
            shared = [files[source.sha256] for source in manifest.sources if source.sha256 in files]
            if shared and theirs != own:
                raise ArrieroError(
                    f"{shared[0].name}: stage '{manifest.name}' held out a share of {theirs[0]:g} (seed {theirs[1]}), "
                    f"this evaluation {own[0]:g} (seed {own[1]}), so the model was trained on part of what is tested; "
                    "give both the same holdout_share and holdout_seed"
                )
