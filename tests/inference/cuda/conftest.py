"""Where the kernels run: on a GPU where there is one, else under Triton's interpreter, where Triton is installed."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
import torch

ON_GPU = torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1"
if not ON_GPU and importlib.util.find_spec("triton") is not None and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported


def _why_not(device: str) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device == "cuda":
        return None if ON_GPU else "there is no GPU"
    if ON_GPU:
        return "the kernels run on the GPU"
    return None if os.environ.get("TRITON_INTERPRET") == "1" else "triton was imported before, for devices"


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """A device that the kernels run on; ``cpu`` is the interpreter."""
    name: str = request.param
    reason = _why_not(name)
    if reason is not None:
        pytest.skip(reason)
    return name
