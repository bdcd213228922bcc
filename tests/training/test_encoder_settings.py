"""The shape and the objective of encoders, out of settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from arriero.tokenization.bert_vocab import BERT_SPECIALS, from_vocab
from arriero.training.encoder_settings import fitted, objective_of, row_length
from arriero.training.pretrain import PretrainSettings

SMALL = {"d_model": 64, "n_layers": 2, "n_heads": 2, "context_length": 32}


@pytest.mark.parametrize(
    ("family", "objective", "task"),
    [
        ("bert", "next_sentence", "pretraining"),
        ("albert", "sentence_order", "pretraining"),
        ("roberta", "masked", "masked_lm"),
        ("deberta", "masked", "masked_lm"),
    ],
)
def test_each_family_has_the_objective_it_is_made_for(family: str, objective: str, task: str) -> None:
    settings = PretrainSettings(family=family, **SMALL)
    config: Any = settings.config(300)
    assert (config.family, config.task, config.vocab_size, config.d_ff) == (family, task, 300, 256)
    assert objective_of(settings, config) == objective
    assert row_length(settings, config) == config.longest == 32
    assert PretrainSettings.model_validate(settings.model_dump()) == settings


def test_albert_shares_one_block_and_has_narrow_tables() -> None:
    config: Any = PretrainSettings(family="albert", **{**SMALL, "d_embedding": 16}).config(300)
    assert (config.n_groups, config.embedding_size) == (1, 16)


def test_an_objective_may_be_chosen() -> None:
    config: Any = PretrainSettings(family="bert", objective="masked", **SMALL).config(300)
    assert config.task == "masked_lm"
    assert objective_of(PretrainSettings(family="bert", objective="sentence_order"), config) == "sentence_order"  # fmt: skip


def test_a_preset_gives_the_shape() -> None:
    config: Any = PretrainSettings(preset="bert-base").config(30522)
    assert (config.d_model, config.n_layers, config.task) == (768, 12, "pretraining")
    shorter = PretrainSettings(preset="roberta-base", context_length=128)
    assert row_length(shorter, shorter.config(500)) == 128  # type: ignore[arg-type]


def test_positions_are_kept_whatever_the_paddings_id_is() -> None:
    config: Any = PretrainSettings(family="roberta", **SMALL).config(300)
    tokenizer = from_vocab(["a", "b", "c", "d", *BERT_SPECIALS], True)
    made = fitted(config, tokenizer)
    assert (made.pad_id, made.sep_id, made.longest) == (4, 7, 32)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"family": "llama", "whole_word": True}, "whole_word: a model of the family llama hides no tokens"),
        ({"family": "gpt2", "objective": "masked"}, "tells the next token"),
        ({"family": "lstm", "mask_share": 0.2}, "hides no tokens"),
        ({"family": "bert", "objective": "causal"}, "reads both ways"),
        ({"family": "roberta", "objective": "next_sentence"}, "no head for it"),
        ({"family": "bert", "n_kv_heads": 2}, "no such setting"),
        ({"family": "bert", "d_embedding": 32}, "no such setting"),
        ({"family": "bert", "stream": True}, "no such setting"),
        ({"family": "bert", "mask_copies": 3}, "mask_copies is for masking static"),
        ({"family": "bert", "d_model": 30, "n_heads": 4}, "n_heads"),
        ({"preset": "bert-base", "family": "albert"}, "is of the family bert"),
        ({"family": "bret"}, "did you mean"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PretrainSettings.model_validate(settings)
