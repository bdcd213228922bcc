"""ALBERT (Lan et al., arXiv 1909.11942): BERT with narrow tables, one block for all layers, and sentence order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arriero.models.encoder_config import EncoderConfig
from arriero.models.families.bert import (
    DEFAULTS,
    EMBEDDING,
    FIXED,
    HEADS,
    KEYS,
    architectures,
    read_common,
    write_common,
)
from arriero.models.families.bert import FAMILY as BERT

_GROUP = "encoder.albert_layer_groups.{}.albert_layers.{}."
_MASKED_LM = {
    "head.dense": "predictions.dense",
    "head.norm": "predictions.LayerNorm",
    "head.decoder": "predictions.decoder",
    "head.bias": "predictions.bias",
}


def _read(values: dict[str, Any]) -> dict[str, Any]:
    dropout = values.get("classifier_dropout_prob")
    found = read_common({"hidden_act": "gelu_new", **values})
    return {**found, "classifier_dropout": 0.1 if dropout is None else dropout}


def _write(config: EncoderConfig) -> dict[str, Any]:
    dropout = config.dropout if config.classifier_dropout is None else config.classifier_dropout
    return {**write_common(config), "classifier_dropout_prob": dropout, "embedding_size": config.table_width}


FAMILY = replace(
    BERT,
    name="albert",
    model_type="albert",
    architectures=architectures("Albert"),
    keys={**KEYS, "embedding_size": "embedding_size", "n_groups": "num_hidden_groups", "group_size": "inner_group_num"},
    defaults={
        **DEFAULTS, "vocab_size": 30000, "embedding_size": 128, "d_model": 4096, "n_heads": 64, "d_ff": 16384,
        "n_groups": 1, "dropout": 0.0, "classifier_dropout": 0.1,
    },
    fixed={**{name: value for name, value in FIXED.items() if name not in ("n_groups", "group_size")}, "embedding_projection": "after_norm"},
    required={},
    modules={
        **EMBEDDING,
        "embedding.projection": "encoder.embedding_hidden_mapping_in",
        "blocks.{}.{}.attention.q_proj": _GROUP + "attention.query",
        "blocks.{}.{}.attention.k_proj": _GROUP + "attention.key",
        "blocks.{}.{}.attention.v_proj": _GROUP + "attention.value",
        "blocks.{}.{}.attention.o_proj": _GROUP + "attention.dense",
        "blocks.{}.{}.attention_norm": _GROUP + "attention.LayerNorm",
        "blocks.{}.{}.feed_forward.up_proj": _GROUP + "ffn",
        "blocks.{}.{}.feed_forward.down_proj": _GROUP + "ffn_output",
        "blocks.{}.{}.feed_forward_norm": _GROUP + "full_layer_layer_norm",
        "pooler.dense": "pooler",
    },
    prefix="albert",
    head_modules={
        **HEADS,
        "masked_lm": _MASKED_LM,
        "pretraining": {**_MASKED_LM, "head.pair": "sop_classifier.classifier"},
    },
    ignored=("position_ids", "pooler.weight", "pooler.bias", "sop_classifier.classifier.weight",
             "sop_classifier.classifier.bias", "predictions.decoder.weight", "predictions.decoder.bias"),
    read=_read,
    write=_write,
    cite="Lan et al. 2019, arXiv 1909.11942",
)  # fmt: skip
