from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.models.gguf.rope import llama3_factors, read_rope, write_rope

LLAMA_3_1 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def stored(factors: list[float]) -> list[float]:
    return list(struct.unpack(f"{len(factors)}f", struct.pack(f"{len(factors)}f", *factors)))


def test_hand_worked_factors() -> None:
    """Head of 4, base 100: frequencies 1 and 0.1, so 1303.8 and 130.4 turns in 8192 tokens; context 60: 9.5 and 0.95."""
    assert llama3_factors(4, 100.0, LLAMA_3_1) == [1.0, 1.0]
    first, second = llama3_factors(4, 100.0, {**LLAMA_3_1, "original_max_position_embeddings": 60})
    assert (first, second) == (1.0, 8.0)


@pytest.mark.parametrize("head_dim", [8, 64, 128])
@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_published_scaling_comes_back(head_dim: int, factor: float) -> None:
    rope = {**LLAMA_3_1, "factor": factor}
    values = {"rope_theta": 500000.0, "rope_scaling": rope}
    metadata, factors = write_rope(values, "llama", head_dim, "m")
    assert factors is not None and len(factors) == head_dim // 2
    assert metadata == {"llama.rope.dimension_count": head_dim, "llama.rope.freq_base": 500000.0}
    assert read_rope(metadata, "llama", head_dim, stored(factors), "m") == values


@settings(max_examples=80, deadline=None)
@given(
    factor=st.floats(1.5, 64),
    low=st.floats(0.5, 2),
    more=st.floats(0.5, 8),
    original=st.integers(64, 16384),
    theta=st.floats(1e3, 1e6),
)
def test_any_scaling_comes_back_as_the_same_frequencies(
    factor: float, low: float, more: float, original: int, theta: float
) -> None:
    rope = {
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": low + more,
        "original_max_position_embeddings": original,
    }
    factors = stored(llama3_factors(128, theta, rope))
    if max(factors) < factor * 0.999 or sum(1.001 < f < factor * 0.999 for f in factors) < 2:
        return  # no frequency shows the whole factor, or too few lie in between
    found = read_rope({"llama.rope.freq_base": theta}, "llama", 128, factors, "m")["rope_scaling"]
    for ours, theirs in zip(llama3_factors(128, theta, found), factors, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize(
    "factors", [[1.0] * 3, [1.0, 2.0, 1.0, 5.0], [1.0, 1.0, float("nan"), 8.0], [1, 1, 1, -1]]
)
def test_other_factors_are_refused(factors: list[float]) -> None:
    with pytest.raises(ArrieroError, match=r"rope_freqs.weight is not Llama 3.1's"):
        read_rope({}, "llama", 8, factors, "m")


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
        {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 512,
            "beta_fast": 24.0,
            "beta_slow": 2.0,
            "attention_factor": 1.5,
        },
    ],
)
@pytest.mark.parametrize("new_keys", [True, False])
def test_linear_and_yarn_come_back(rope: dict[str, Any], new_keys: bool) -> None:
    values = (
        {"rope_parameters": {**rope, "rope_theta": 7e4}}
        if new_keys
        else {"rope_scaling": rope, "rope_theta": 7e4}
    )
    metadata, factors = write_rope(values, "qwen2", 16, "m")
    assert factors is None and metadata["qwen2.rope.scaling.type"] == rope["rope_type"]
    found = read_rope(metadata, "qwen2", 16, None, "m")
    assert found["rope_theta"] == 7e4 and found["rope_scaling"].keys() == rope.keys()
    for key, value in rope.items():
        assert found["rope_scaling"][key] == (value if isinstance(value, str) else pytest.approx(value))


def test_longrope_is_refused() -> None:
    with pytest.raises(ArrieroError, match="'longrope' is not known"):
        read_rope(
            {"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 2.0}, "llama", 8, None, "m"
        )
    with pytest.raises(ArrieroError, match="freq_base is nan"):
        read_rope({"llama.rope.freq_base": float("nan")}, "llama", 8, None, "m")
