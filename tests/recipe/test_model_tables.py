"""`arriero models list` and `arriero models show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from arriero.models.checkpoint import save_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig


def test_list_names_every_preset_of_a_family(arriero: Any) -> None:
    text = arriero("models", "list", "--family", "llama").stdout
    assert "llama-3-8b" in text and "8,030,261,248" in text and "bert-base" not in text
    found = json.loads(arriero("models", "list", "--json").stdout)
    assert found["gpt2"] == 124_439_808 and found["bert-base"] == 109_482_240


def test_show_prints_shape_parts_and_costs(arriero: Any) -> None:
    text = arriero("models", "show", "llama-3-8b").stdout
    for part in ("8,030,261,248", "rope_theta", "525,336,576  (6.5%)", "131,072 bytes", "16.1 GB"):
        assert part in text


def test_show_of_a_folder(arriero: Any, tmp_path: Path) -> None:
    shape = {"vocab_size": 50, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 32, "context_length": 16}
    model = Decoder(DecoderConfig.model_validate(shape))
    model.init_weights(0)
    save_model(model, tmp_path / "model")
    told = json.loads(arriero("models", "show", str(tmp_path / "model"), "--json").stdout)
    assert told["total"] == sum(p.numel() for p in model.parameters())
    assert told["kv_bytes_per_token"] == 2 * 2 * 16 * 2
    assert torch.tensor(told["forward_flops_per_token"]) > 0


def test_an_unknown_name_is_one_line(arriero: Any) -> None:
    done = arriero("models", "show", "lama-3-8b", code=2)
    assert "did you mean 'llama-3-8b'" in done.stderr
