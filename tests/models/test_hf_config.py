"""What a ``config.json`` may say, and what it may not be taken for."""

from __future__ import annotations

from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.models.hf_config import EXPERTS, config_from_hf

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "vocab_size": 100,
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("num_hidden_layers", True, "num_hidden_layers is true, not a whole number"),
        ("hidden_size", "64", 'hidden_size is "64", not a whole number'),
        ("num_key_value_heads", 2.5, "num_key_value_heads is 2.5, not a whole number"),
        ("rms_norm_eps", "1e-5", 'rms_norm_eps is "1e-5", not a number'),
        ("tie_word_embeddings", 1, "tie_word_embeddings is 1, not true or false"),
    ],
)
def test_a_value_of_another_kind_is_an_error(key: str, value: Any, said: str) -> None:
    with pytest.raises(ArrieroError, match=f"^m: {said}$"):
        config_from_hf({**LLAMA, key: value}, "m")


@pytest.mark.parametrize("key", EXPERTS)
def test_experts_are_no_dense_model(key: str) -> None:
    with pytest.raises(ArrieroError, match=f"m: {key} is 8; Arriero's llama has no experts"):
        config_from_hf({**LLAMA, key: 8}, "m")
    assert config_from_hf({**LLAMA, key: 1}, "m") == config_from_hf(LLAMA, "m")


def test_whole_numbers_are_numbers_and_null_is_the_default() -> None:
    found = config_from_hf({**LLAMA, "rms_norm_eps": 1, "num_key_value_heads": None}, "m")
    assert found.norm_eps == 1.0 and found.n_kv_heads == found.n_heads == 4  # type: ignore[attr-defined]
