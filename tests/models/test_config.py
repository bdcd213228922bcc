from __future__ import annotations

from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.models.decoder_config import DecoderConfig

GOOD = {
    "vocab_size": 97,
    "d_model": 48,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "d_ff": 80,
    "context_length": 64,
}


def test_head_dim_follows_and_round_trips() -> None:
    config = DecoderConfig.parse(GOOD, "here")
    assert config.head_dim == 12
    assert DecoderConfig.parse(config.model_dump(), "here") == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_kv_heads": 3}, "n_heads 4 is not a multiple of n_kv_heads 3"),
        ({"n_heads": 5}, "d_model 48 is not a multiple of n_heads 5; set head_dim"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"d_ff": 0}, "d_ff: Input should be greater than or equal to 1"),
        ({"dff": 3}, "dff: unknown key; did you mean 'd_ff'?"),
        ({"vocab_size": None}, "vocab_size: Input should be a valid integer"),
        ({"n_heads": "four"}, "n_heads: Input should be a valid integer"),
    ],
)
def test_bad_values_get_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArrieroError) as caught:
        DecoderConfig.parse({**GOOD, **changes}, "recipe.yaml")
    assert message in str(caught.value) and str(caught.value).startswith("recipe.yaml: ")
    assert "\n" not in str(caught.value)
