"""Names of devices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from arriero.cli import cli
from arriero.errors import ArrieroError
from arriero.inference.cuda.device import resolve_device
from arriero.inference.engine import Engine
from arriero.models.checkpoint import save_model
from arriero.models.decoder import Decoder
from arriero.tokenization.tokenizer import Tokenizer


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda0", "", "CPU", "mps"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ArrieroError, match="should be auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ArrieroError, match="sees no CUDA device"):
            resolve_device(name)


def test_with_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda:0"
    assert resolve_device("cuda:1") == "cuda:1"
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(ArrieroError, match="there are 2 CUDA devices"):
        resolve_device("cuda:2")


@pytest.fixture
def folder(model: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_model(model, tmp_path)
    tokenizer.save(tmp_path)
    return tmp_path


def test_an_engine_reads_its_model_to_a_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Engine.load(folder, max_batch=1).pool.shape.device == "cpu"
    with pytest.raises(ArrieroError, match="device 'gpu' should be"):
        Engine.load(folder, device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Engine.load(folder, max_batch=1, device="auto").pool.shape.device == "cpu"
    with pytest.raises(ArrieroError, match="sees no CUDA device"):
        Engine.load(folder, device="cuda")


@pytest.mark.gpu
def test_an_engine_on_a_gpu(folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    engine = Engine.load(folder, max_batch=1, device="cuda")
    assert engine.pool.shape.device == "cuda:0"
    assert {p.device.type for p in engine.model.parameters()} == {"cuda"}


@pytest.mark.parametrize("command", ["serve", "chat", "ask", "bench"])
def test_the_commands_hand_the_name_on(command: str, folder: Path) -> None:
    words = [command, str(folder), *(["hello"] if command == "ask" else []), "--device", "gpu"]
    words += ["--port", "0", "--no-key"] if command == "serve" else []
    words += ["--prompt", "hello"] if command == "chat" else []
    done = CliRunner().invoke(cli, words)
    assert isinstance(done.exception, ArrieroError)
    assert "device 'gpu' should be auto, cpu, cuda or cuda:N" in str(done.exception)
