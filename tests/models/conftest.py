from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig

MakeModel = Callable[..., Decoder]


@pytest.fixture
def make_model() -> MakeModel:
    """A small decoder with drawn weights; keyword arguments change its configuration."""

    def make(seed: int = 0, **changes: Any) -> Decoder:
        values = {"vocab_size": 97, "d_model": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 96}
        config = DecoderConfig.model_validate({**values, "context_length": 64, "init_std": 0.2, **changes})
        model = Decoder(config).eval()
        model.init_weights(seed)
        return model

    return make
