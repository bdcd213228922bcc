"""The stage ``mixture``: the shares of a mixture, from small models that were trained on different ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from arriero.artifacts import Artifact
from arriero.cost.device import DeviceProfile
from arriero.errors import ArrieroError, did_you_mean
from arriero.evaluation.ladder import small_estimate
from arriero.stage import (
    Context,
    Input,
    Inputs,
    LawSpec,
    ModelSpec,
    Outcome,
    Plan,
    Specs,
    Stage,
    StageSettings,
    TokensSpec,
    open_input,
    register,
)

_START_SECONDS, _DRAW_SECONDS = 0.5, 2e-3
"""Reading the manifests, and each drawn law; measured on one core."""
_ALIKE = 0.02
"""Proxies may differ so much in the tokens that they were trained on."""


class MixtureSettings(StageSettings):
    """What the shares are to be best for."""

    weights: dict[str, float] = Field(
        default={},
        description="how much each source's held-out loss counts, by its name; by default all the same",
    )
    outside: bool = Field(
        default=False,
        description="propose shares beyond the smallest and largest that a proxy was trained with",
    )
    bootstrap_samples: int = Field(
        default=300, ge=100, le=100_000, description="laws drawn for the intervals"
    )
    confidence: float = Field(default=0.8, gt=0, lt=1, description="confidence of the intervals")


@register
class MixtureSearch(Stage[MixtureSettings]):
    """Fit how each source's held-out loss depends on the shares that small models were trained with; propose shares.

    Every proxy is trained on a stage ``mix`` of its own, of the same sources, with the same size and tokens. Wanted are two more
    proxies than sources, and better twice as many, with shares that vary on their own. The law is that of Ye et al. 2024
    (arXiv 2403.16952); what it is worth is told by predicting each run from the others.
    """

    kind = "mixture"
    version = 1
    makes = "law"
    inputs = {
        "models": Input("model", "proxies: small models, each trained on a mixture of its own", many=True),
        "tokens": Input("tokens", "the mixtures that they were trained on", many=True),
    }
    help = "propose a mixture's shares from small models trained on different mixtures"
    Settings = MixtureSettings

    def plan(self, settings: MixtureSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.evaluation.mixture_fit import fewest_runs

        models: list[ModelSpec] = specs["models"]
        mixtures: list[TokensSpec] = specs["tokens"]
        names = _same_sources([(f"mixture {n}", spec) for n, spec in enumerate(mixtures, 1)])
        if len(models) < fewest_runs(len(names)):
            raise ArrieroError(
                f"{len(models)} proxies cannot tell a mixing law of {len(names)} sources: train at least"
                f" {fewest_runs(len(names))}"
            )
        _check_weights(settings.weights, names)
        seconds = _START_SECONDS + _DRAW_SECONDS * len(names) * settings.bootstrap_samples
        notes = [f"{len(models)} proxies on mixtures of {', '.join(names)}"]
        return Plan(LawSpec(runs=len(models)), small_estimate(seconds, device), notes)

    def run(self, settings: MixtureSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.artifacts.commit import write_bytes_atomic
        from arriero.evaluation.mixture_result import MIXTURE_FILE, search

        models: list[Artifact] = inputs["models"]
        mixtures: list[Artifact] = inputs["tokens"]
        names = _same_sources([(one.name, open_input(one, TokensSpec)) for one in mixtures])
        _check_alike(models)
        shares = {
            one.manifest.content: {n: s.share for n, s in open_input(one, TokensSpec).mixture.items()}
            for one in mixtures
        }
        proxies = [_proxy(model, shares) for model in models]
        held = _same_held_out(proxies)
        _check_weights(settings.weights, held)
        found = search(
            proxies, {name: settings.weights.get(name, 0.0 if settings.weights else 1.0) for name in held},
            outside=settings.outside, draws=settings.bootstrap_samples, confidence=settings.confidence,
            seed=context.seed,
        )  # fmt: skip
        write_bytes_atomic(context.folder / MIXTURE_FILE, (found.model_dump_json(indent=2) + "\n").encode())
        for line in found.lines():
            context.say(line)
        facts = {
            "shares": {name: found.shares[name].model_dump() for name in names},
            "gain": found.gain.model_dump(),
            "surely_better": found.surely_better,
            "left_out_error": found.left_out_error,
            "spread": found.spread,
            "notes": found.lines()[-1:],
        }
        return Outcome(LawSpec(runs=len(models)), facts)


def _same_sources(mixtures: Sequence[tuple[str, TokensSpec]]) -> list[str]:
    """Names of the sources.

    Raises:
        ArrieroError: some tokens are no mixture, or one of other sources.
    """
    first = list(mixtures[0][1].mixture)
    for name, spec in mixtures:
        if not spec.mixture:
            raise ArrieroError(f"'{name}' is no mixture: give the tokens of stages mix")
        if set(spec.mixture) != set(first):
            raise ArrieroError(
                f"'{name}' mixes {', '.join(spec.mixture)}, not {', '.join(first)}: all proxies want the same sources"
            )
    return first


def _check_weights(weights: dict[str, float], names: Sequence[str]) -> None:
    for name, weight in weights.items():
        if name not in names:
            raise ArrieroError(f"'{name}' has a weight but is no source{did_you_mean(name, names)}")
        if weight < 0:
            raise ArrieroError(f"the weight of '{name}' should not be negative")
    if weights and not sum(weights.values()) > 0:
        raise ArrieroError("one of the weights should be above 0")


def _check_alike(models: Sequence[Artifact]) -> None:
    """Proxies should differ in their mixture alone."""
    first = models[0]
    size = open_input(first, ModelSpec).n_parameters
    tokens = first.manifest.facts.get("tokens")
    for model in models:
        if open_input(model, ModelSpec).n_parameters != size:
            raise ArrieroError(
                f"'{model.name}' has another size than '{first.name}': proxies differ in their mixture alone"
            )
        own = model.manifest.facts.get("tokens")
        if not isinstance(own, int | float) or not isinstance(tokens, int | float):
            raise ArrieroError(f"'{model.name}' does not say its tokens: proxies are made by pretrain stages")
        if abs(own - tokens) > _ALIKE * tokens:
            raise ArrieroError(
                f"'{model.name}' was trained on {own:,} tokens and '{first.name}' on {tokens:,}: give all as many"
            )


def _proxy(model: Artifact, shares: dict[str, dict[str, float]]) -> Any:
    from arriero.evaluation.mixture_result import Proxy

    content = next((record.content for record in model.manifest.inputs if record.role == "tokens"), None)
    if content not in shares:
        raise ArrieroError(f"'{model.name}' was trained on none of the mixtures that are given")
    scored = (model.manifest.facts.get("heldout_model") or {}).get("sources") or {}
    losses = {name: values["loss"] for name, values in scored.items() if "loss" in values}
    if not losses:
        raise ArrieroError(
            f"'{model.name}' has no held-out loss by source: its sources want a validation split that fills a window"
        )
    return Proxy(name=model.name, shares=shares[content], losses=losses)


def _same_held_out(proxies: Sequence[Any]) -> list[str]:
    first = proxies[0]
    for proxy in proxies:
        if list(proxy.losses) != list(first.losses):
            raise ArrieroError(f"'{proxy.name}' was scored on other sources than '{first.name}'")
    return list(first.losses)
