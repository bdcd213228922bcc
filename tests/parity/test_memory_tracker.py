"""Live bytes against torch's own tracker (torch.distributed._tools.mem_tracker) on real training steps.

That tracker takes no second call of a module and no ``autograd.grad`` on a leaf, so the steps are of one micro-batch and
of models whose head is one linear layer.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.objectives import planned_objective
from arriero.planning.memory.step import logged_step
from arriero.products import traced_here
from arriero.training.objectives.base import Shape
from arriero.training.settings import TrainSettings
from arriero.training.traced import Work, step_state, take_step

pytestmark = pytest.mark.parity
SIZES: dict[str, Any] = {
    "vocab_size": 300, "d_model": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 96, "context_length": 64
}  # fmt: skip
GPT2: dict[str, Any] = {
    "family": "gpt2", "norm": "layer", "positions": "learned", "gated": False, "activation": "gelu_tanh",
    "n_kv_heads": 4, "qkv_bias": True, "out_bias": True, "feed_forward_bias": True,
}  # fmt: skip


@pytest.mark.parametrize("family", [{}, GPT2, {"positions": "alibi", "tie_embeddings": False}])
@pytest.mark.parametrize("mode", ["none", "selective", "full"])
@pytest.mark.parametrize(("objective", "precision"), [("causal", "fp32"), ("sft", "bf16"), ("dpo", "fp32")])
def test_the_peak_is_that_of_torchs_tracker_on_the_real_step(
    family: dict[str, Any], mode: Any, objective: str, precision: Any
) -> None:
    trackers = pytest.importorskip("torch.distributed._tools.mem_tracker")
    config = DecoderConfig.model_validate({**SIZES, **family})
    settings = TrainSettings(activation_checkpointing=mode)
    work = Work(config, planned_objective(config, objective, 64), settings, precision)
    shape = Shape(4, 64, 4 * 64 if objective == "causal" else 128)
    state = step_state(work, config, [shape])
    state[0].init_weights(0)
    batch = [getattr(state[3], f.name) for f in fields(state[3])]
    tracker = trackers.MemTracker()
    tracker.track_external(state[0], state[1], *(t for t in batch if isinstance(t, torch.Tensor)))
    with tracker:
        take_step(work, state)
    peak = sum(kinds["Total"] for kinds in tracker.get_tracker_snapshot("peak").values())
    with traced_here():
        assert logged_step(work, config, [shape]).trace.peak_bytes == peak
