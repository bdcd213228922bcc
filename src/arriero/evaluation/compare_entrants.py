"""Who takes part in a comparison: models trained on the same tokens, runs of one family put together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arriero.artifacts import Artifact
from arriero.artifacts.hashing import sha256_json
from arriero.errors import ArrieroError
from arriero.stage import ModelSpec, TokenSplitSpec, open_input

NGRAM = "ngram"
PAPERS = {
    NGRAM: (1998, "Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling"),
    "feedforward": (2003, "Bengio et al., A Neural Probabilistic Language Model"),
    "rnn": (2010, "Mikolov et al., Recurrent neural network based language model"),
    "lstm": (2012, "Sundermeyer et al., LSTM Neural Networks for Language Modeling"),
    "gpt1": (2018, "Radford et al., Improving Language Understanding by Generative Pre-Training"),
    "gpt2": (2019, "Radford et al., Language Models are Unsupervised Multitask Learners"),
    "llama": (2023, "Touvron et al., LLaMA: Open and Efficient Foundation Language Models"),
}
"""The paper that each family comes from: (year, name)."""


@dataclass(frozen=True)
class Entrant:
    """One trained model.

    Attributes:
        context: most tokens that it takes at once; None for no limit.
        group: the same for models that differ in nothing but their seed.
    """

    name: str
    artifact: Artifact
    spec: ModelSpec
    context: int | None
    group: str

    @property
    def family(self) -> str:
        return family_of(self.spec)

    @property
    def is_ngram(self) -> bool:
        return self.family == NGRAM

    @property
    def seed(self) -> int:
        return self.artifact.manifest.seed


def family_of(spec: ModelSpec) -> str:
    """The family's name in the spec's configuration."""
    return str(spec.config.get("family", "llama"))


def context_of(spec: ModelSpec) -> int | None:
    """Most tokens that a model of this spec takes at once; None where its memory is its state or its window."""
    found = spec.config.get("context_length")
    return int(found) if found is not None else None


def entrants(models: Sequence[Artifact], tokens: Artifact) -> list[Entrant]:
    """The models, checked to be comparable.

    Raises:
        ArrieroError: two of one name, or one that was not trained on these very tokens.
    """
    names = [model.name for model in models]
    for model in models:
        if names.count(model.name) > 1:
            raise ArrieroError(f"two of the compared models are named '{model.name}'")
        trained = [record.content for record in model.manifest.inputs if record.role == "tokens"]
        if tokens.manifest.content not in trained:
            raise ArrieroError(
                f"model '{model.name}' was not trained on the tokens '{tokens.name}'; families are compared on one "
                "corpus (the stage 'evaluate' compares any models)"
            )
    return [_entrant(model) for model in models]


def _entrant(model: Artifact) -> Entrant:
    manifest, spec = model.manifest, open_input(model, ModelSpec)
    settings = {key: value for key, value in manifest.settings.items() if key != "seed"}
    inputs = [[record.role, record.content] for record in manifest.inputs]
    group = sha256_json([manifest.kind, manifest.stage_version, settings, inputs])
    return Entrant(model.name, model, spec, context_of(spec), group)


def grouped(found: Sequence[Entrant]) -> list[list[Entrant]]:
    """Runs of one family together, in the order of their first."""
    groups: dict[str, list[Entrant]] = {}
    for entrant in found:
        groups.setdefault(entrant.group, []).append(entrant)
    return list(groups.values())


def group_name(runs: Sequence[Entrant]) -> str:
    """The name that the runs have in common: ``lstm`` for ``lstm-1`` and ``lstm-2``."""
    first = runs[0]
    return first.name.removesuffix(f"-{first.seed}") if len(runs) > 1 else first.name


@dataclass(frozen=True)
class Training:
    """What a model took to train, and its held-out loss on the way.

    Attributes:
        curve: (tokens, CPU seconds, nats a token) of each held-out evaluation.
    """

    tokens: float | None
    cpu_seconds: float
    stage_cpu_seconds: float
    curve: list[tuple[float, float, float]]


def training_of(entrant: Entrant) -> Training:
    """From the artifact's manifest."""
    manifest = entrant.artifact.manifest
    metered = float(manifest.measured.get("cpu_seconds", 0.0))
    tokens = manifest.facts.get("tokens")
    return Training(
        tokens=float(tokens) if isinstance(tokens, int | float) else None,
        cpu_seconds=float(manifest.facts.get("cpu_seconds", metered)),
        stage_cpu_seconds=metered,
        curve=_curve(manifest.facts.get("heldout", [])),
    )


def _curve(evaluations: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, float]]:
    keys = ("tokens", "cpu_seconds", "loss")
    return [
        (float(found[keys[0]]), float(found[keys[1]]), float(found[keys[2]]))
        for found in evaluations
        if all(isinstance(found.get(key), int | float) for key in keys)
    ]


def bits_per_nat(split: TokenSplitSpec) -> float:
    """Bits per byte that a held-out loss of one nat a token is worth: every token is scored but a document's first."""
    return (split.tokens - split.documents) / max(1, split.bytes) / math.log(2)
