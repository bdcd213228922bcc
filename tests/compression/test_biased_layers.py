"""Quantised layers keep the biases of families that have them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from arriero.compression.rounding import quantize_model
from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_model, save_model
from arriero.models.decoder import Decoder
from arriero.models.families import get_family
from arriero.models.layers.quantized import WeightScheme, use_plain_layers
from arriero.native.linear import exact_products

SHAPE = {"vocab_size": 61, "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 64, "context_length": 32}


def make(family: str) -> Decoder:
    found = get_family(family)
    fields = {**found.defaults, **found.fixed, **SHAPE, "family": family}
    model = Decoder(found.config.parse(fields, "test")).eval()
    model.init_weights(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
    return model


@pytest.mark.parametrize("family", ["qwen2", "gopher", "codegeex"])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_biased_model_quantised_saved_and_loaded(family: str, bits: int, tmp_path: Path) -> None:
    model, ids = make(family), torch.arange(20)[None]
    scheme = WeightScheme(bits, 16 if bits == 4 else None)
    with torch.inference_mode(), exact_products():
        before = model(ids)
        quantize_model(model, scheme, torch.float32)
        after = model(ids)
        assert 0 < (after - before).abs().max() < (0.3 if bits == 4 else 0.02)
        save_model(model, tmp_path)
        assert torch.equal(load_model(tmp_path)(ids), after)
        use_plain_layers(model, torch.float32)
        assert torch.allclose(model(ids), after, atol=1e-6)


def test_fused_matrices_cannot_be_stored_quantised(tmp_path: Path) -> None:
    model = make("gpt2")
    quantize_model(model, WeightScheme(8), torch.float32)
    with pytest.raises(ArrieroError, match="in one matrix; export the model as GGUF"):
        save_model(model, tmp_path)
