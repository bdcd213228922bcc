"""The stage `mixture`: from proxies' manifests to shares."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arriero.artifacts import Artifact, Manifest
from arriero.artifacts.artifact import list_files
from arriero.artifacts.manifest import InputRecord
from arriero.errors import ArrieroError
from arriero.evaluation.mixture_fit import MixtureLaw
from arriero.evaluation.mixture_result import MIXTURE_FILE, MixtureResult
from arriero.stage import LawSpec, MixedSourceSpec, ModelSpec, TokenSplitSpec, TokensSpec, get_stage

STAGE = get_stage("mixture")
NAMES = ["web", "code", "books"]
# a source's own text teaches it most; books help web, code helps nobody else
LAW = MixtureLaw(np.array([2.0, 1.2, 2.4]), np.array([[-0.9, 0.4, -0.1], [0.7, -1.6, 0.6], [0.3, 0.8, -0.8]]))
DEVICE: Any = SimpleNamespace(process_bytes=3e8)


def artifact(folder: Path, kind: str, makes: str, spec: Any, **more: Any) -> Artifact:
    folder.mkdir(parents=True)
    (folder / "content.json").write_text(
        json.dumps({"name": folder.name, "spec": spec.model_dump(mode="json")})
    )
    manifest = Manifest(
        name=folder.name, kind=kind, makes=makes, key=folder.name, stage_version=1, settings={}, seed=1,
        files=list_files(folder), spec=spec.model_dump(mode="json"), started="2026-01-01T10:00:00+00:00",
        ended="2026-01-01T10:05:00+00:00", **more,
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return Artifact.open(folder)


def mixture(folder: Path, shares: np.ndarray, names: list[str] = NAMES) -> Artifact:
    size = TokenSplitSpec(documents=10, tokens=1000, bytes=4000)
    sources = {
        n: MixedSourceSpec(share=float(s), splits={"train": size}) for n, s in zip(names, shares, strict=True)
    }
    spec = TokensSpec(vocab_size=300, splits={"train": size}, mixture=sources)
    return artifact(folder, "mix", "tokens", spec)


def proxy(
    folder: Path, mixed: Artifact, losses: np.ndarray, tokens: int = 10_000, size: int = 5000
) -> Artifact:
    record = InputRecord(
        role="tokens", name="t", kind="mix", key="k", content=mixed.manifest.content, path="."
    )
    scored = {name: {"loss": float(loss), "weight": 1.0} for name, loss in zip(NAMES, losses, strict=True)}
    spec = ModelSpec(config={"family": "llama"}, n_parameters=size, weight_bytes=4 * size)
    facts = {"tokens": tokens, "heldout_model": {"loss": float(losses.mean()), "sources": scored}}
    return artifact(folder, "pretrain", "model", spec, inputs=[record], facts=facts)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, list[Artifact]]:
    """Ten proxies of a known law, with a noise of 0.3 %."""
    rng = np.random.default_rng(4)
    mixtures, models = [], []
    for n, shares in enumerate(rng.dirichlet(np.ones(3) * 1.5, 10)):
        mixtures.append(mixture(tmp_path / f"mix{n}", shares))
        losses = LAW.losses(shares) * np.exp(0.003 * rng.standard_normal(3))
        models.append(proxy(tmp_path / f"proxy{n}", mixtures[-1], losses))
    return {"models": models, "tokens": mixtures}


def run(given: dict[str, list[Artifact]], context: Any, **settings: Any) -> tuple[Any, MixtureResult, Any]:
    outcome = STAGE.run(STAGE.Settings(bootstrap_samples=100, **settings), given, context)
    return outcome, MixtureResult.model_validate_json((context.folder / MIXTURE_FILE).read_bytes()), context


def test_it_proposes_what_the_true_law_likes_better_than_any_proxy(given, context) -> None:
    outcome, found, _ = run(given, context)
    assert outcome.spec == LawSpec(runs=10)
    shares = np.array([found.shares[name].value for name in NAMES])
    assert shares.sum() == pytest.approx(1)
    tried = np.array([[p.shares[name] for name in NAMES] for p in found.proxies])
    assert (shares >= tried.min(axis=0) - 1e-9).all()
    assert (shares <= tried.max(axis=0) + 1e-9).all()
    truth = LAW.losses(tried).mean(axis=1)
    assert LAW.losses(shares).mean() < truth.min() + 0.005
    assert LAW.losses(shares).mean() < np.median(truth) - 0.02
    assert found.explains
    assert found.left_out_error < 0.5 * found.spread
    assert found.gain.low <= found.gain.value <= found.gain.high
    assert any(line.startswith("proposed weights: {web: ") for line in context.lines)


def test_weights_move_the_shares(given, context) -> None:
    even = run(given, context)[1].shares["code"].value
    assert run(given, context, weights={"code": 1.0})[1].shares["code"].value > even
    alone = run(given, context, weights={"code": 1.0}, outside=True)[1]
    assert alone.shares["code"].value == pytest.approx(1, abs=1e-3)
    assert alone.weights == {"web": 0.0, "code": 1.0, "books": 0.0}


def test_the_order_of_the_proxies_changes_no_share(given, context) -> None:
    one = run(given, context)[1]
    turned = run({role: list(reversed(all)) for role, all in given.items()}, context)[1]
    for name in NAMES:
        assert turned.shares[name].value == pytest.approx(one.shares[name].value, abs=2e-3)


def test_noise_is_called_noise(tmp_path: Path, context) -> None:
    rng = np.random.default_rng(2)
    mixtures = [mixture(tmp_path / f"mix{n}", s) for n, s in enumerate(rng.dirichlet(np.ones(3), 9))]
    losses = 3 + 0.1 * rng.standard_normal((9, 3))
    models = [proxy(tmp_path / f"p{n}", m, losses[n]) for n, m in enumerate(mixtures)]
    _, found, _ = run({"models": models, "tokens": mixtures}, context)
    assert not found.explains
    assert "explains nothing" in context.lines[-1]


def test_what_makes_no_search_is_refused(given, context, tmp_path: Path) -> None:
    def refused(match: str, settings: Any = None, **changed: list[Artifact]) -> None:
        with pytest.raises(ArrieroError, match=match) as told:
            STAGE.run(STAGE.Settings(**(settings or {})), given | changed, context)
        assert "\n" not in str(told.value)

    models, tokens = given["models"], given["tokens"]
    refused("at least 5 proxies", models=models[:4])
    refused("trained on none of the mixtures", tokens=tokens[1:])
    refused("'wbe' has a weight.*did you mean 'web'", {"weights": {"wbe": 1}})
    refused("should not be negative", {"weights": {"web": -1}})
    refused("above 0", {"weights": {"web": 0}})
    losses = np.array([3.0, 3.0, 3.0])
    refused("another size", models=[*models, proxy(tmp_path / "big", tokens[0], losses, size=9000)])
    refused(
        "was trained on 20,000 tokens",
        models=[*models, proxy(tmp_path / "long", tokens[0], losses, tokens=20_000)],
    )
    other = mixture(tmp_path / "other", np.array([0.5, 0.5]), ["web", "code"])
    refused("all proxies want the same sources", tokens=[*tokens, other])


def test_the_plan_says_what_is_wanted(given) -> None:
    specs = {
        "models": [ModelSpec.model_validate(a.manifest.spec) for a in given["models"]],
        "tokens": [TokensSpec.model_validate(a.manifest.spec) for a in given["tokens"]],
    }
    plan = STAGE.plan(STAGE.Settings(), specs, DEVICE)
    assert plan.spec == LawSpec(runs=10)
    assert plan.notes == ["10 proxies on mixtures of web, code, books"]
    with pytest.raises(ArrieroError, match="train at least 5"):
        STAGE.plan(STAGE.Settings(), specs | {"models": specs["models"][:3]}, DEVICE)
    with pytest.raises(ArrieroError, match="is no mixture"):
        plain = [TokensSpec(vocab_size=300, splits={})]
        STAGE.plan(STAGE.Settings(), specs | {"tokens": plain}, DEVICE)
