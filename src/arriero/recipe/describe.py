"""Specs in a few words."""

from __future__ import annotations

from arriero.cost.units import format_bytes, format_count
from arriero.stage import (
    ComparisonSpec,
    CorpusSpec,
    LawSpec,
    ModelSpec,
    ReconciliationSpec,
    ScoresSpec,
    Spec,
    TokenizerSpec,
    TokensSpec,
)


def describe_spec(spec: Spec) -> str:
    """What a stage will make, in a few words."""
    if isinstance(spec, CorpusSpec):
        documents = sum(split.documents for split in spec.splits.values())
        return (
            f"{format_count(documents)} documents, {format_bytes(sum(s.bytes for s in spec.splits.values()))}"
        )
    if isinstance(spec, TokenizerSpec):
        return f"{spec.vocab_size:,} pieces, {spec.bytes_per_token:.1f} B/token"
    if isinstance(spec, TokensSpec):
        return f"{format_count(sum(s.tokens for s in spec.splits.values()))} tokens"
    if isinstance(spec, ModelSpec):
        return (
            f"{format_count(spec.n_parameters)} parameters, {spec.format}, {format_bytes(spec.weight_bytes)}"
        )
    if isinstance(spec, ScoresSpec):
        return f"{len(spec.measures)} measures of {len(spec.models)} models"
    if isinstance(spec, ComparisonSpec):
        return f"{spec.families} families, {spec.runs} models"
    if isinstance(spec, LawSpec):
        return f"law of {spec.runs} runs, {len(spec.predictions)} predictions"
    if isinstance(spec, ReconciliationSpec):
        return f"{spec.predictions} predictions reconciled"
    return spec.type
