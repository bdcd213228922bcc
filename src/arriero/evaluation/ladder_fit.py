"""From trained models to the law they follow."""

from __future__ import annotations

from collections.abc import Sequence

from arriero.artifacts import Artifact
from arriero.cost.scaling.bootstrap import bootstrap, predict
from arriero.cost.scaling.fit import fit_law
from arriero.cost.scaling.runs import Runs
from arriero.errors import ArrieroError
from arriero.evaluation.ladder import LadderSettings
from arriero.evaluation.ladder_result import LawResult, law_result
from arriero.stage import ModelSpec, TokensSpec, open_input

_EPOCHS = 4.0
"""Passes over the same text up to which repeats are worth nearly as much as new text (Muennighoff et al. 2023)."""
_LOSS = "heldout_nats_per_token"


def fit_ladder(
    settings: LadderSettings, models: Sequence[Artifact], tokens: Artifact | None, seed: int
) -> LawResult:
    """The law of these models, its intervals and its predictions.

    Raises:
        ArrieroError: models of different tokens, without a held-out loss, or too few to tell a law.
    """
    _same_tokens(models, tokens)
    runs = Runs.of([run_of(model, settings.embeddings) for model in models], [model.name for model in models])
    found = fit_law(runs, delta=settings.delta)
    bands = bootstrap(found, draws=settings.bootstrap_samples, seed=seed)
    made = {
        name: predict(bands, rung.parameters, rung.tokens, confidence=settings.confidence, far=settings.far)
        for name, rung in settings.predict.items()
    }
    return law_result(
        found, bands.parameters(settings.confidence), made, confidence=settings.confidence, embeddings=settings.embeddings,
        draws=settings.bootstrap_samples, method=bands.method, notes=_notes(runs, settings, tokens),
    )  # fmt: skip


def run_of(model: Artifact, embeddings: bool) -> tuple[float, float, float]:
    """(parameters, training tokens, held-out nats a token) of a trained model.

    Raises:
        ArrieroError: its manifest does not say.
    """
    facts = model.manifest.facts
    for key, wanted in (
        (_LOSS, "a held-out loss (a validation split that fills a window)"),
        ("tokens", "its tokens"),
    ):
        if not isinstance(facts.get(key), int | float):
            raise ArrieroError(
                f"model '{model.name}' does not say {wanted}: a ladder is made of pretrain stages"
            )
    parameters = float(open_input(model, ModelSpec).n_parameters)
    if not embeddings:
        parts = facts.get("parameters")
        if not isinstance(parts, dict) or "embedding" not in parts:
            raise ArrieroError(f"model '{model.name}' does not say how many of its parameters are embeddings")
        parameters -= float(parts["embedding"])
    return parameters, float(facts["tokens"]), float(facts[_LOSS])


def _same_tokens(models: Sequence[Artifact], tokens: Artifact | None) -> None:
    trained = {
        model.name: next((r.content for r in model.manifest.inputs if r.role == "tokens"), None)
        for model in models
    }
    wanted = tokens.manifest.content if tokens is not None else trained[models[0].name]
    for name, content in trained.items():
        if content is None or content != wanted:
            other = (
                f"the tokens '{tokens.name}'" if tokens is not None else f"the tokens of '{models[0].name}'"
            )
            raise ArrieroError(
                f"model '{name}' was not trained on {other}: a law is of one text, one tokenizer and one held-out split"
            )


def _notes(runs: Runs, settings: LadderSettings, tokens: Artifact | None) -> list[str]:
    """Runs and predictions that go over their text more often than repeats are worth."""
    if tokens is None:
        return []
    there = open_input(tokens, TokensSpec).splits["train"].tokens
    seen = dict(zip(runs.names, runs.tokens / there, strict=True))
    seen |= {name: rung.tokens / there for name, rung in settings.predict.items()}
    return [
        f"{name} goes over its text {passes:.1f} times; repeats teach less than the law assumes"
        for name, passes in seen.items()
        if passes > _EPOCHS
    ]
