"""Encoders through the stage ``pretrain``: plan, run, resume, tokenizers by their roles, and one shared block."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers

from arriero.artifacts import Artifact
from arriero.errors import ArrieroError, Interrupted
from arriero.models.checkpoint import load_model
from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.stage import TokensSpec, get_stage, open_input
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer
from arriero.tokenization.wordpiece_train import train_wordpiece
from arriero.training.masked_pretrain import _Parts
from arriero.training.pretrain import PretrainSettings
from arriero.training.traced import Work, step_figures

from .test_pretrain import gflop_device, write_tokens  # noqa: F401 - a fixture

STAGE = get_stage("pretrain")
SHAPE = {"d_model": 32, "n_layers": 2, "n_heads": 2, "context_length": 32, "threads": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    texts = sample_texts(40_000)
    tokenizer = train_wordpiece(texts, 300)
    return write_tokens(
        tmp_path_factory.mktemp("masked"), tokenizer, train=texts[4:], validation=texts[:4]
    )  # fmt: skip


def settings(**changes: Any) -> PretrainSettings:
    values = {**SHAPE, "duration": "12 steps", "batch_size": 4, "learning_rate": 5e-3, **changes}
    return PretrainSettings.model_validate(values)


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("bert", {"whole_word": True}),
        ("albert", {"mask_ngrams": 3, "d_embedding": 16}),
        ("roberta", {"document_mask": False, "masking": "static"}),
    ],
)
def test_each_family_is_trained_saved_and_scored(
    family: str, more: dict[str, Any], tokens: Artifact, make_context: Any
) -> None:
    context = make_context()
    outcome = STAGE.run(settings(family=family, **more), {"tokens": tokens}, context)
    facts = outcome.facts
    assert facts["heldout"][-1]["loss"] < facts["heldout"][0]["loss"]
    assert facts["masked"]["tokens"] > 0 and 0 < facts["masked"]["trigram"]["accuracy"] < 1
    assert set(facts.get("pairs", {})) == (set() if family == "roberta" else {"next_sentence", "sentence_order"})  # fmt: skip
    assert context.flops == pytest.approx(facts["flops"]) and facts["flops"] > 0
    model = load_model(context.folder)
    assert model.config.family == family and model.config.longest == 32
    assert Tokenizer.load(context.folder).mask_id is not None
    json.dumps(facts)


def test_a_plan_foresees_the_run(tokens: Artifact, make_context: Any, gflop_device: Any) -> None:  # noqa: F811
    chosen = settings(family="bert")
    plan = STAGE.plan(chosen, {"tokens": open_input(tokens, TokensSpec)}, gflop_device)
    made = STAGE.run(chosen, {"tokens": tokens}, make_context())
    assert plan.spec.n_parameters == made.spec.n_parameters
    assert plan.spec.weight_bytes == pytest.approx(made.spec.weight_bytes, rel=0.01)
    assert plan.estimate.flops.value == pytest.approx(made.facts["flops"], rel=0.5)
    assert "objective next_sentence" in plan.notes[0]


def test_a_stopped_stage_ends_with_the_same_bytes(
    tokens: Artifact, make_context: Any, tmp_path: Path
) -> None:
    chosen = settings(family="albert", duration="2 epochs", batch_size=32)
    whole = make_context()
    STAGE.run(chosen, {"tokens": tokens}, whole)
    with pytest.raises(Interrupted):
        STAGE.run(chosen, {"tokens": tokens}, make_context(root=tmp_path / "parted", stop_at=9))
    parted = make_context(root=tmp_path / "parted")
    STAGE.run(chosen, {"tokens": tokens}, parted)
    name = "model.safetensors"
    assert (whole.folder / name).read_bytes() == (parted.folder / name).read_bytes()


def test_without_held_out_text_it_is_trained_and_said(tmp_path: Path, make_context: Any) -> None:
    texts = sample_texts(8_000)
    alone = write_tokens(tmp_path / "alone", train_wordpiece(texts, 280), train=texts)
    context = make_context()
    facts = STAGE.run(settings(family="bert", duration="3 steps"), {"tokens": alone}, context).facts
    assert facts["steps"] == 3 and "masked" not in facts
    assert any("nothing held-out is measured" in line for line in context.said)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path, make_context: Any) -> None:
    texts = sample_texts(4_000)
    plain = write_tokens(tmp_path / "plain", train=texts[1:], validation=texts[:1])
    with pytest.raises(ArrieroError, match="has no mask token"):
        STAGE.run(settings(family="bert"), {"tokens": plain}, make_context())


def test_robertas_tokens_work_by_their_roles() -> None:
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    core = Core(models.BPE(vocab={name: i for i, name in enumerate([*names, "Ġthe", "cat", "."])}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    core.add_special_tokens(names)
    parts = _Parts.of(Tokenizer(core.to_str(), {}), settings(family="roberta", whole_word=True))
    assert (parts.cls_id, parts.sep_id, parts.pad_id, parts.masking.mask_id) == (0, 2, 1, 4)
    assert parts.masking.special.tolist() == [True] * 5 + [False] * 3
    assert parts.masking.ordinary.tolist() == [5, 6, 7] and parts.sentences.ends.tolist()[5:] == [0, 0, 1]
    assert parts.masking.starts is not None and parts.masking.starts.tolist()[5:] == [True, False, False]


def _tied(layers: int, groups: int | None) -> Encoder:
    config = EncoderConfig(
        family="albert", vocab_size=50, d_model=24, n_layers=layers, n_heads=2, d_ff=48, context_length=20,
        n_groups=groups, task="masked_lm", init_std=0.2,
    )  # fmt: skip
    model = Encoder(config)
    model.init_weights(0)
    return model


def test_the_shared_blocks_gradient_is_the_sum_of_the_unshared_ones() -> None:
    layers = 4
    shared, unshared = _tied(layers, 1).double(), _tied(layers, layers).double()
    state = shared.state_dict()
    for name in unshared.state_dict():
        parts = name.split(".")
        source = ".".join(["blocks", "0", *parts[2:]]) if parts[0] == "blocks" else name
        unshared.state_dict()[name].copy_(state[source])
    ids = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(0))
    for model in (shared, unshared):
        model.loss(model(ids), ids.flip(1)).backward()
    for name, p in shared.named_parameters():
        if name.startswith("blocks."):
            wanted = sum(
                unshared.get_parameter(f"blocks.{layer}.{name.split('.', 2)[2]}").grad
                for layer in range(layers)
            )
            torch.testing.assert_close(p.grad, wanted, rtol=1e-6, atol=1e-9)


def test_alberts_blocks_have_one_lth_of_berts_parameters() -> None:
    block = lambda model: sum(p.numel() for n, p in model.named_parameters() if n.startswith("blocks."))  # noqa: E731
    for layers in (2, 3, 6):
        assert block(_tied(layers, layers)) == layers * block(_tied(layers, 1))


def test_the_plan_counts_a_shared_block_as_often_as_it_is_applied() -> None:
    from .test_masked_objective import objective

    goal, chosen = objective(), settings(family="albert")
    shape = goal.batch([0, 1]).shape
    flops = [
        step_figures(Work(_tied(12, groups).config, goal, chosen, "fp32"), [shape], None).flops
        for groups in (1, 12)
    ]
    assert flops[0] == pytest.approx(flops[1], rel=1e-6)
