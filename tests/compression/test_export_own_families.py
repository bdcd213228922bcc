"""Families that transformers does not have: the plan, the folder and its card say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arriero.artifacts import Artifact
from arriero.compression.export import Export, ExportSettings
from arriero.cost.device import DeviceProfile
from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_model, read_format, save_model
from arriero.models.decoder import Decoder
from arriero.models.families import get_family
from arriero.stage import ModelSpec

SHAPE = {"vocab_size": 203, "d_model": 24, "n_layers": 2, "n_heads": 3, "d_ff": 40, "context_length": 48}


@pytest.fixture
def model_of() -> Callable[[str], Decoder]:
    def make(family: str) -> Decoder:
        found = get_family(family)
        config = found.config.parse({**found.defaults, **found.fixed, **SHAPE, "family": family}, "test")
        model = Decoder(config).eval()
        model.init_weights(2)
        return model

    return make


@pytest.mark.parametrize("family", ["gopher", "codegeex", "gpt2"])
def test_who_reads_the_folder(
    source: Artifact,
    device: DeviceProfile,
    make_context: Callable[[str], Any],
    commit: Callable[..., Artifact],
    model_of: Callable[[str], Decoder],
    family: str,
) -> None:
    model, made, out = model_of(family), make_context("made"), make_context("out")
    save_model(model, made.folder)
    spec = ModelSpec(
        config=model.config.model_dump(),
        n_parameters=sum(model.parameter_counts().values()),
        weight_bytes=4 * sum(model.parameter_counts().values()),
        format=read_format(made.folder),
    )
    artifact = commit(made, spec, source, "pretrain")
    plan = Export().plan(ExportSettings(), {"model": spec}, device)
    Export().run(ExportSettings(), {"model": artifact}, out)
    ids = torch.randint(0, 203, (2, 30), generator=torch.Generator().manual_seed(1))
    assert torch.equal(load_model(out.folder)(ids), model(ids))
    card, own = (out.folder / "README.md").read_text(), family != "gpt2"
    assert card.startswith(f"---\nlibrary_name: {'arriero' if own else 'transformers'}\n")
    assert ("only Arriero reads this folder" in card) == own and ("AutoModel" in card) != own
    assert "rotary base" not in card and f"| positions | {model.config.positions} |" in card
    assert any("only Arriero reads" in note for note in plan.notes) == own
    if own:
        with pytest.raises(ArrieroError, match="cannot be written as GGUF"):
            Export().plan(ExportSettings(format="gguf"), {"model": spec}, device)
