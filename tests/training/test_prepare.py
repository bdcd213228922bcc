"""Device and precision that this machine does not have are refused in a line."""

from __future__ import annotations

import pytest
import torch

from arriero.errors import ArrieroError
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.training.precision import Arithmetic, choose_arithmetic
from arriero.training.prepare import on_device, prepared
from arriero.training.settings import TrainSettings

CONFIG = DecoderConfig(vocab_size=64, d_model=32, n_layers=1, n_heads=4, d_ff=64, context_length=32)


def test_no_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArrieroError, match="no NVIDIA GPU"):
        choose_arithmetic(TrainSettings(device="cuda"), None)
    assert choose_arithmetic(TrainSettings(), None).device == "cpu"


def test_a_gpu_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_arithmetic(TrainSettings(threads=1), None) == Arithmetic("bf16", 1, "cuda")
    assert choose_arithmetic(TrainSettings(threads=1, device="cpu"), None) == Arithmetic("fp32", 1, "cpu")


def test_fp8_is_refused_on_a_processor() -> None:
    settings = TrainSettings(precision="fp8")
    model = Decoder(CONFIG)
    with (
        pytest.raises(ArrieroError, match="fp8 needs an NVIDIA GPU"),
        prepared(model, settings, Arithmetic("fp8", 1)),
    ):
        pass


def test_the_model_goes_there_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model, moves = Decoder(CONFIG), []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(model, "to", moves.append)
    with on_device(model, "cuda"):
        assert moves == [torch.device("cuda", 3)]
    assert moves[1:] == [torch.device("cpu")]
    torch.set_float32_matmul_precision("highest")
