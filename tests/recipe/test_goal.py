"""What a recipe says to `arriero plan RECIPE --goal`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.recipe import goal
from arriero.stage import ModelSpec, TokenSplitSpec, TokensSpec
from arriero.training.pretrain import PretrainSettings

SPLIT = TokenSplitSpec(documents=10, tokens=1_000_000, bytes=4_000_000)
TOKENS = TokensSpec(vocab_size=1000, splits={"train": SPLIT})


def planned(monkeypatch: pytest.MonkeyPatch, cost: dict[str, Any] | None = None, **settings: Any) -> None:
    """A recipe of two stages whose plan is known."""
    given = PretrainSettings(d_model=64, n_layers=2, n_heads=4, context_length=128, batch_size=8, **settings)
    spec = ModelSpec(config=given.config(1000).model_dump(), n_parameters=200_000, weight_bytes=800_000)
    tokens = SimpleNamespace(
        step=SimpleNamespace(name="tokens", stage=SimpleNamespace(kind="tokenize")), spec=TOKENS
    )
    base = SimpleNamespace(
        step=SimpleNamespace(
            name="base", stage=SimpleNamespace(kind="pretrain"), settings=given,
            inputs={"tokens": [SimpleNamespace(stage="tokens")]},
        ),
        spec=spec,
    )  # fmt: skip
    recipe = SimpleNamespace(name="toy", header=SimpleNamespace(cost=cost or {}))
    plan = SimpleNamespace(stages=[tokens, base], recipe=recipe)
    monkeypatch.setattr(goal, "make_plan", lambda *args, **more: (plan, None))


@pytest.mark.parametrize(
    ("duration", "tokens"),
    [
        ("2e6 tokens", 2e6),
        ("3 epochs", 3e6),
        ("50 steps", 50 * 8 * 128),
        ("20 x parameters", 4e6),
        ("1 h", None),
    ],
)
def test_model_tokens_and_batch_of_the_pretrain_stage(monkeypatch, duration, tokens):
    planned(monkeypatch, {"region": "FRA", "price_per_hour": 1.0}, duration=duration)
    known = goal.known_of(Path("toy.yaml"), (), None, lambda line: None)
    assert known.tokens == (None if tokens is None else pytest.approx(tokens))
    assert (known.name, known.context, known.batch_tokens) == ("toy:base", 128, 8 * 128)
    assert known.optimizer == "adamw" and known.tariffs == {"region": "FRA"}
    assert known.config.d_model == 64 and known.config.vocab_size == 1000


def test_a_recipe_that_pretrains_nothing(monkeypatch):
    empty = SimpleNamespace(stages=[], recipe=None)
    monkeypatch.setattr(goal, "make_plan", lambda *args, **more: (empty, None))
    with pytest.raises(ArrieroError, match="no stage pretrains a model"):
        goal.known_of(Path("toy.yaml"), (), None, lambda line: None)
