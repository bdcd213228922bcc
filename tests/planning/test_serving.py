"""The serving sheet: golden facts, bounds, what more of a thing does, and what is unknown."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.models.decoder_config import DecoderConfig
from arriero.models.hf_config import config_to_hf
from arriero.models.preset import preset_config
from arriero.planning.estimate import device_source
from arriero.planning.serving.answer import estimate_serving
from arriero.planning.serving.sheet import ServingQuestion
from arriero.planning.serving.speeds import most


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = DecoderConfig(
        vocab_size=512, d_model=256, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=512, context_length=512, tie_embeddings=False
    )  # fmt: skip
    path = tmp_path_factory.mktemp("toy") / "config.json"
    path.write_text(json.dumps(config_to_hf(config, "float32", {})))
    return str(path)


@pytest.fixture
def asked(toy: str) -> ServingQuestion:
    return ServingQuestion(toy, hardware="h100", context=512, answer=64, batch=8)


@given(st.integers(0, 3000))
def test_the_largest_number_that_holds(limit: int) -> None:
    assert most(lambda n: n <= limit) == limit


def test_figures_hang_together(asked: ServingQuestion) -> None:
    sheet = estimate_serving(asked)
    each, everybody = sheet.answer["each answer"].value, sheet.answer["all answers"].value
    price = 2.29
    assert (
        each is not None
        and everybody == pytest.approx(8 * each)
        and each == pytest.approx(1 / sheet.step_seconds)
    )
    assert sheet.answer["1 M tokens out"].value == pytest.approx(price * 1e6 / everybody / 3600)
    first = sheet.answer["first token"].value
    assert first is not None and sheet.answer["1 M tokens in"].value == pytest.approx(
        price * 1e6 * first / 448 / 3600
    )
    assert sheet.kv_token == 2 * 2 * 2 * 64 * 2 and sheet.kv_stream == 512 * sheet.kv_token
    kv = sheet.fit.kinds["kv"].value
    assert kv == 8 * sheet.kv_stream
    assert sheet.fit.kinds["weights"].value == pytest.approx(
        2 * (2 * 512 * 256 + 2 * (256 * (2 * 256 + 2 * 128) + 3 * 256 * 512) + 5 * 256)
    )
    assert sheet.bound in sheet.bounds and sheet.bounds[sheet.bound] == max(sheet.bounds.values())


def test_more_answers_take_longer_each_and_less_together(asked: ServingQuestion) -> None:
    rates = []
    for batch in (1, 8, 64, 512):
        answer = estimate_serving(replace(asked, batch=batch)).answer
        rates.append((answer["each answer"].value or 0.0, answer["all answers"].value or 0.0))
    assert all(one[0] >= other[0] and one[1] <= other[1] for one, other in itertools.pairwise(rates))


def test_fewer_bits_are_never_slower_or_larger(asked: ServingQuestion) -> None:
    found = [
        estimate_serving(replace(asked, batch=1, weights=held)) for held in ("fp32", "bf16", "int8", "int4")
    ]
    sizes = [sheet.fit.kinds["weights"].value or 0.0 for sheet in found[:2]]
    assert sizes[0] == 2 * sizes[1]
    assert [sheet.bounds["weights"] for sheet in found[:2]] == sorted(
        (sheet.bounds["weights"] for sheet in found[:2]), reverse=True
    )
    blocks = [sheet.fit.kinds["weights"].value or 0.0 for sheet in found]
    assert blocks[3] < blocks[2] < blocks[0]


def test_the_limits_are_limits(asked: ServingQuestion) -> None:
    users = dict(estimate_serving(asked).users)
    memory, speed, both = users.values()
    assert memory is not None and speed is not None and both == min(memory, speed)
    at_limit = estimate_serving(replace(asked, batch=memory))
    over = estimate_serving(replace(asked, batch=memory + 1))
    assert (
        at_limit.fit.short == 0
        and over.fit.short
        and over.next_action == f"--batch {memory} is the most that fits"
    )


def test_a_device_without_bandwidth_has_no_speed(
    asked: ServingQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = device_source.find("h100")
    figures = {name: value for name, value in found.figures.items() if name != "bandwidth_gb_s"}
    changed = replace(found, name="H1000", drivers=(), figures=figures)
    monkeypatch.setattr(device_source, "find", lambda name: changed)
    sheet = estimate_serving(asked)
    assert (
        not sheet.answer["each answer"].known
        and not sheet.answer["1 M tokens out"].known
        and sheet.bound is None
    )
    assert dict(sheet.users)["that still get 10 tokens/s each"] is None
    assert json.loads(json.dumps(sheet.to_json(), allow_nan=False))["step_seconds"] is None


def test_only_decoders_write(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="--serve is for decoders that write a token at a time"):
        estimate_serving(ServingQuestion("bert-base", hardware="h100"))


@pytest.mark.parametrize(("model", "bytes_a_token"), [("llama-3-8b", 131072), ("llama-2-7b", 524288), ("llama-3-70b", 327680),
                                                      ("llama-3.1-405b", 516096), ("falcon-7b", 8192)])  # fmt: skip
def test_kept_bytes_of_a_token(model: str, bytes_a_token: int) -> None:
    """Published for Llama: 128 KiB, 512 KiB, 320 KiB, 504 KiB."""
    assert preset_config(model).kv_bytes_per_token() == bytes_a_token  # type: ignore[attr-defined]


@pytest.mark.slow
def test_llama_3_8b_on_an_h100() -> None:
    sheet = estimate_serving(
        ServingQuestion("llama-3-8b", hardware="h100", context=8192, batch=1, weights="bf16")
    )
    assert sheet.kv_token == 131072 and sheet.kv_stream == 2**30
    assert sheet.bound == "weights" and 150 < sheet.crossover < 400
    assert sheet.fit.kinds["weights"].value == 2 * 8030261248
