"""Compiled blocks: the same step, the same names, and clear words where there is no compiler."""

from __future__ import annotations

import shutil

import pytest
import torch

from arriero.errors import ArrieroError
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.training.compiled import compiled_blocks
from arriero.training.objectives.base import Shape
from arriero.training.objectives.causal import CausalObjective, PlannedWindows
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate

CONFIG = DecoderConfig(
    vocab_size=64, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=64, context_length=32
)


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ArrieroError, match=r"C\+\+ compiler"), compiled_blocks(Decoder(CONFIG), True):
        pass


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ArrieroError, match="has none"), compiled_blocks(torch.nn.Linear(2, 2), True):
        pass


def test_selective_checkpointing_is_refused_with_it() -> None:
    with pytest.raises(ValueError, match="full or none"):
        TrainSettings(compile=True, activation_checkpointing="selective")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_step_is_the_same_step() -> None:
    objective = CausalObjective(PlannedWindows(4, 32), 32, document_mask=False)
    batch = objective.synthetic(Shape(4, 32, 128))
    generator = torch.Generator().manual_seed(0)
    batch.ids.random_(64, generator=generator)
    batch.targets.random_(64, generator=generator)
    found = []
    for wanted in (False, True):
        model = Decoder(CONFIG)
        model.init_weights(0)
        names = list(model.state_dict())
        with compiled_blocks(model.train(), wanted):
            assert (model.blocks[0]._compiled_call_impl is not None) is wanted
            loss = accumulate(model, objective, [batch], 128, "fp32")["loss"]
            assert list(model.state_dict()) == names
            with torch.no_grad():
                hidden = model.hidden(batch.ids[:1, :7])
        assert model.blocks[0]._compiled_call_impl is None
        found.append([loss, hidden, *(p.grad for p in model.parameters())])
    torch.compiler.reset()
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)
