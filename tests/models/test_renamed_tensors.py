"""One bias under two names: an untied masked-LM head as transformers 4 and as transformers 5 store it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from arriero.errors import ArrieroError
from arriero.models.checkpoint import build_model, load_model, save_model
from arriero.models.encoder_config import EncoderConfig

SHAPE = {"vocab_size": 31, "d_model": 12, "n_layers": 1, "n_heads": 2, "d_ff": 14, "context_length": 16}
NAMES = {
    "bert": ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    "roberta": ("lm_head.bias", "lm_head.decoder.bias"),
}


@pytest.mark.parametrize("family", NAMES)
def test_the_second_name_may_be_missing(family: str, tmp_path: Path) -> None:
    config = EncoderConfig.model_validate(
        {"family": family, **SHAPE, "task": "masked_lm", "tie_embeddings": False, **OWN[family]}
    )
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    save_model(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    first, second = NAMES[family]
    assert torch.equal(stored[first], stored[second])  # whichever name a reader goes by
    assert torch.equal(stored[second], model.head.decoder.bias)
    del stored[second]
    save_file(stored, tmp_path / "model.safetensors")
    assert torch.equal(load_model(tmp_path).head.decoder.bias, model.head.decoder.bias)
    del stored[first]
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(ArrieroError, match="is missing"):
        load_model(tmp_path)


OWN: dict[str, dict[str, object]] = {
    "bert": {},
    "roberta": {"positions": "skip_padding", "dense_classifier": True, "mlm_activation": "gelu", "pad_id": 1},
}
"""What makes it that family."""
