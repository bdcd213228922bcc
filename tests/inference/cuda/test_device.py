"""Names of devices."""

from __future__ import annotations

import pytest
import torch

from arriero.errors import ArrieroError
from arriero.inference.cuda.device import resolve_device


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
