"""Our encoders against transformers', every family with every head, both directions, on small random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.parity.encoder_cases import (
    FAMILIES,
    TASKS,
    cases,
    make_inputs,
    make_labels,
    make_theirs,
    run_theirs,
    sound,
)

from arriero.models.checkpoint import load_model, save_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

LENGTHS = {"none": (1, 7), "right": (3, 13), "left": (3, 22), "holes": (2, 17)}
"""Padding -> batch, length."""


def assert_close(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    if isinstance(ours, tuple):
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other)
        return
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1e-3)


def compare(ours: Any, theirs: Any, task: str, padding: str) -> None:
    batch, length = LENGTHS[padding]
    inputs = make_inputs(theirs, task, batch, length, padding)
    labels = None if task == "none" else make_labels(theirs, task, inputs["ids"])
    expected, loss = run_theirs(theirs, task, inputs, labels)
    with torch.no_grad():
        outputs = ours(**inputs)
        assert_close(outputs, expected)
        if labels is not None:
            assert_close(ours.loss(outputs, labels), loss)


@pytest.mark.parametrize(("name", "task"), [case for case in cases() if sound(transformers, *case)])
def test_both_directions(name: str, task: str, tmp_path: Path) -> None:
    theirs = make_theirs(transformers, name, task)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    assert ours.config.task == task
    for padding in LENGTHS:
        compare(ours, theirs, task, padding)
    save_model(ours, tmp_path / "ours")
    again, report = getattr(transformers, FAMILIES[name][0] + TASKS[task]).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert load_model(tmp_path / "ours").config == ours.config
    compare(ours, again.eval(), task, "right")


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_of_every_layer(name: str, tmp_path: Path) -> None:
    if name == "albert groups" and transformers.__version__.startswith("4."):
        pytest.skip("transformers 4 gives the vectors after each group's last layer only")
    theirs = make_theirs(transformers, name, "none", seed=1)
    theirs.save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    inputs = make_inputs(theirs, "none", 2, 19, "left")
    with torch.no_grad():
        expected = theirs(
            input_ids=inputs["ids"],
            attention_mask=inputs["attention_mask"],
            token_type_ids=inputs.get("segments"),
            output_hidden_states=True,
        ).hidden_states
        states = load_model(tmp_path).states(**inputs)
    assert len(states) == len(expected)
    for ours, other in zip(states, expected, strict=True):
        assert_close(ours, other)


@pytest.mark.parametrize(
    ("name", "task"),
    [(name, "masked_lm") for name in FAMILIES if sound(transformers, name, "masked_lm")]
    + [("bert", "pretraining"), ("albert", "pretraining")],
)
def test_untied_heads(name: str, task: str, tmp_path: Path) -> None:
    theirs = make_theirs(transformers, name, task, seed=2, tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    compare(ours, theirs, task, "right")
    save_model(ours, tmp_path / "ours", shard_bytes=9000)
    again, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    compare(ours, again.eval(), task, "left")


@pytest.mark.parametrize(
    "task", ["none", "masked_lm", "sequence_classification", "question_answering", "multiple_choice"]
)
@pytest.mark.parametrize("length", [5, 12, 23, 40])
def test_global_tokens_anywhere(task: str, length: int, tmp_path: Path) -> None:
    theirs = make_theirs(transformers, "longformer", task, seed=3)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    for padding in ("none", "right", "holes"):
        inputs = make_inputs(theirs, task, 3, length, padding)
        flags = torch.rand(inputs["ids"].shape, generator=torch.Generator().manual_seed(length)) < 0.2
        flags[0] = False  # a row without any among rows with some
        inputs["global_attention"] = flags.long()
        expected, _ = run_theirs(theirs, task, inputs)
        with torch.no_grad():
            assert_close(ours(**inputs), expected)


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "deberta", "deberta v2"])
@pytest.mark.parametrize(
    ("problem", "n_labels", "kind"),
    [
        (None, 1, "figure"),
        (None, 4, "class"),
        (None, 4, "shares"),
        ("regression", 3, "figures"),
        ("single_label_classification", 4, "class"),
        ("multi_label_classification", 4, "shares"),
    ],
)
def test_losses_of_sequences(
    name: str, problem: str | None, n_labels: int, kind: str, tmp_path: Path
) -> None:
    task = "sequence_classification"
    theirs = make_theirs(transformers, name, task, num_labels=n_labels, problem_type=problem)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    inputs = make_inputs(theirs, task, 4, 9, "right")
    generator = torch.Generator().manual_seed(8)
    labels = {
        "figure": torch.randn(4, generator=generator),
        "figures": torch.randn(4, n_labels, generator=generator),
        "class": torch.randint(0, n_labels, (4,), generator=generator),
        "shares": torch.rand(4, n_labels, generator=generator).softmax(-1),
    }[kind]
    expected, loss = run_theirs(theirs, task, inputs, labels)
    with torch.no_grad():
        outputs = ours(**inputs)
        assert_close(outputs.view(expected.shape), expected)
        assert_close(ours.loss(outputs, labels), loss)


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "deberta plain", "longformer"])
def test_given_positions(name: str, tmp_path: Path) -> None:
    theirs = make_theirs(transformers, name, "masked_lm", seed=5)
    theirs.save_pretrained(tmp_path)
    inputs = make_inputs(theirs, "masked_lm", 2, 11, "none")
    inputs["positions"] = torch.randint(2, 38, (2, 11), generator=torch.Generator().manual_seed(6))
    expected, _ = run_theirs(theirs, "masked_lm", inputs)
    with torch.no_grad():
        assert_close(load_model(tmp_path)(**inputs), expected)


@pytest.mark.parametrize("name", ["deberta", "deberta v2"])
def test_longer_than_the_relative_table(name: str, tmp_path: Path) -> None:
    theirs = make_theirs(transformers, name, "none", seed=7)
    theirs.save_pretrained(tmp_path)
    inputs = make_inputs(theirs, "none", 2, 131, "right")
    expected, _ = run_theirs(theirs, "none", inputs)
    with torch.no_grad():
        assert_close(load_model(tmp_path)(**inputs), expected)


@pytest.mark.skipif(
    not sound(transformers, "deberta v2 conv", "masked_lm"), reason="transformers 4 cannot make one"
)
def test_enhanced_mask_decoder(tmp_path: Path) -> None:
    """transformers has none, but its layers take other queries: the authors' loop is written out with them."""
    theirs = make_theirs(transformers, "deberta v2", "masked_lm", seed=4, legacy=False, mask_decoder_steps=2)
    table = torch.randn(40, 30, generator=torch.Generator().manual_seed(1))
    theirs.save_pretrained(tmp_path / "theirs", state_dict={
        **theirs.state_dict(), "deberta.embeddings.position_embeddings.weight": table
    })  # fmt: skip
    ours = load_model(tmp_path / "theirs")
    inputs = make_inputs(theirs, "masked_lm", 2, 15, "right")
    mask, encoder = inputs["attention_mask"], theirs.deberta.encoder
    with torch.no_grad():
        before = theirs.deberta(
            input_ids=inputs["ids"], attention_mask=mask, output_hidden_states=True
        ).hidden_states[-2]
        asked = before + table[:15]
        for _ in range(2):
            asked, _ = encoder.layer[-1](
                before, encoder.get_attention_mask(mask), query_states=asked,
                relative_pos=encoder.get_rel_pos(before), rel_embeddings=encoder.get_rel_embedding(),
            )  # fmt: skip
        expected = theirs.lm_predictions(asked, theirs.deberta.embeddings.word_embeddings)
        assert_close(ours(**inputs), expected)
    save_model(ours, tmp_path / "ours")
    assert load_model(tmp_path / "ours").config == ours.config
    _, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_files_as_published(tmp_path: Path) -> None:
    """bert-base-uncased's: norms with TensorFlow's names, position_ids, and the heads of pre-training."""
    theirs = make_theirs(transformers, "bert", "pretraining", seed=6)
    theirs.save_pretrained(tmp_path)
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
           for name, tensor in load_file(tmp_path / "model.safetensors").items()}  # fmt: skip
    old["bert.embeddings.position_ids"] = torch.arange(40)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    save_file(old, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    ours = load_model(tmp_path)
    inputs = make_inputs(theirs, "pretraining", 2, 9, "right")
    with torch.no_grad():
        assert_close(ours(**inputs), run_theirs(theirs, "pretraining", inputs)[0][0])


def test_a_body_saved_without_its_pooler(tmp_path: Path) -> None:
    theirs = transformers.BertModel(
        make_theirs(transformers, "bert", "none").config, add_pooling_layer=False
    ).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.pooler is None
    inputs = make_inputs(theirs, "none", 2, 9, "right")
    with torch.no_grad():
        assert_close(ours(**inputs), run_theirs(theirs, "none", inputs)[0])


@pytest.mark.parametrize("name", ["bert", "albert", "deberta v2", "longformer"])
def test_gradients(name: str, tmp_path: Path) -> None:
    theirs = make_theirs(transformers, name, "token_classification", seed=9, hidden_dropout_prob=0.0)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    inputs = make_inputs(theirs, "token_classification", 3, 14, "right")
    labels = make_labels(theirs, "token_classification", inputs["ids"])
    labels[inputs["attention_mask"] == 0] = -100
    ours.loss(ours(**inputs), labels).backward()
    theirs(
        input_ids=inputs["ids"], attention_mask=inputs["attention_mask"], token_type_ids=inputs.get("segments"),
        labels=labels,
    ).loss.backward()  # fmt: skip
    expected = theirs.get_input_embeddings().weight.grad.clone()
    expected[theirs.config.pad_token_id] = ours.embedding.word.weight.grad[theirs.config.pad_token_id]
    assert_close(ours.embedding.word.weight.grad, expected, 1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_folders(dtype: str, tmp_path: Path) -> None:
    theirs = make_theirs(transformers, "bert", "masked_lm").to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.embedding.word.weight.dtype == getattr(torch, dtype)
    inputs = make_inputs(theirs, "masked_lm", 2, 9, "right")
    expected, _ = run_theirs(theirs.float(), "masked_lm", inputs)
    with torch.no_grad():
        assert_close(load_model(tmp_path, dtype="float32")(**inputs), expected)
        assert_close(ours(**inputs).float(), expected, 0.05)
