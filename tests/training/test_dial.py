from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.training.dial import Fit, dialled, shape_of
from arriero.training.pretrain import PretrainSettings


@given(st.integers(1, 64))
def test_every_depth_has_whole_heads(depth: int) -> None:
    shape = shape_of(depth)
    head = shape["d_model"] // shape["n_heads"]
    assert shape["n_layers"] == depth and head in (64, 128) and head * shape["n_heads"] == shape["d_model"]
    assert 64 * depth <= shape["d_model"] < 64 * depth + 128


def test_the_shapes_are_nanochats() -> None:
    assert shape_of(20) == {"n_layers": 20, "d_model": 1280, "n_heads": 10}
    assert shape_of(32) == {"n_layers": 32, "d_model": 2048, "n_heads": 16}
    assert shape_of(4) == {"n_layers": 4, "d_model": 256, "n_heads": 4}


def test_the_fit_is_the_papers() -> None:
    """At its own scale: 1e19 FLOP, some 1.3e-3 and 0.47 M tokens (figure 3 of arXiv 2401.02954)."""
    fit = Fit(10**8, 1e19 / 6e8)
    assert fit.learning_rate == pytest.approx(1.31e-3, rel=0.01)
    assert fit.batch_tokens == pytest.approx(4.8e5, rel=0.02)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "mistral", "qwen2"])
def test_a_depth_makes_a_model_of_any_decoder_family(family: str) -> None:
    config: Any = PretrainSettings(family=family, depth=3).config(300)
    assert (config.n_layers, config.d_model, config.n_heads, config.n_kv_heads, config.head_dim) == (
        3,
        192,
        3,
        3,
        64,
    )


def test_what_is_set_beside_the_depth_stays() -> None:
    config: Any = PretrainSettings(depth=4, n_heads=8, n_kv_heads=2, context_length=64, d_model=256).config(
        300
    )
    assert (config.n_heads, config.n_kv_heads, config.context_length) == (8, 2, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 300}, "depth 4 means d_model 256, not 300"),
        ({"n_layers": 5}, "depth 4 means n_layers 4, not 5"),
        ({"preset": "gpt2"}, "two shapes"),
        ({"family": "lstm"}, "a decoder's dial"),
        ({"family": "bert"}, "a decoder's dial"),
    ],
)
def test_two_meanings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PretrainSettings.model_validate({"depth": 4, **changes})


def resolved(**changes: Any) -> PretrainSettings:
    """Of a model of 40 M parameters, and 400 M tokens."""
    settings = PretrainSettings.model_validate({"depth": 8, "duration": "1 epochs", **changes})
    return dialled(settings, 40_000_000, 256, 1_562_500, settings.model_fields_set)


def test_batch_and_rate_follow_from_the_runs_arithmetic() -> None:
    fit = Fit(40_000_000, 400_000_000)
    found = resolved()
    assert 0.7 < found.batch_size * 256 / fit.batch_tokens < 1.42, "the nearest power of two"
    assert found.learning_rate == pytest.approx(
        fit.learning_rate * (found.batch_size * 256 / fit.batch_tokens) ** 0.5, rel=0.01
    )
    assert resolved(duration="400000000 tokens").batch_size == found.batch_size
    assert resolved(duration="80 x parameters").batch_size > found.batch_size
    steps = round(400_000_000 / fit.batch_tokens)
    assert resolved(duration=f"{steps} steps").batch_size == found.batch_size
    assert resolved(duration="1 h").batch_size == found.batch_size, "at most an epoch is assumed"


def test_a_short_run_has_no_wild_rate() -> None:
    assert resolved(duration="1000 tokens").batch_size < 16
    assert resolved(duration="1000 tokens", batch_size=64).learning_rate == 3e-3


def test_what_the_user_has_set_stays() -> None:
    found = resolved(batch_size=4, learning_rate=3e-4)
    assert (found.batch_size, found.learning_rate) == (4, 3e-4)
    small, large = resolved(batch_size=4), resolved(batch_size=16)
    assert large.learning_rate == pytest.approx(2 * small.learning_rate, rel=0.01)
    assert resolved(optimizer="adafactor").learning_rate == 1e-2


def test_without_a_depth_nothing_changes() -> None:
    settings = PretrainSettings()
    assert dialled(settings, 10**6, 256, 100, frozenset()) is settings
