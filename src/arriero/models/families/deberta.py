"""DeBERTa (He et al., arXiv 2006.03654): content and relative position apart in attention; no pooler in the body."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arriero.models.encoder_config import EncoderConfig
from arriero.models.families.bert import (
    BLOCK,
    DEFAULTS,
    EMBEDDING,
    FIXED,
    HEADS,
    KEYS,
    LAYER,
    architectures,
    read_common,
    write_common,
)
from arriero.models.families.bert import FAMILY as BERT
from arriero.models.family import Fused
from arriero.models.layers.activation_names import ours_of, theirs_of

MASK_DECODER = "mask_decoder_steps"
"""Our own key of config.json: transformers has no enhanced mask decoder and passes over its table."""
MODULES = {
    **EMBEDDING,
    **BLOCK,
    "embedding.projection": "embeddings.embed_proj",
    "positions.table": "encoder.rel_embeddings",
    "mask_decoder.positions": "embeddings.position_embeddings",
}
WITH_POOLER = {"head.pooler.dense": "pooler.dense", "head.out": "classifier"}
_IN_PROJ = Fused(LAYER + "attention.self.in_proj", "grouped")


def read_shape(values: dict[str, Any]) -> dict[str, Any]:
    """What both versions say alike and no table can."""
    width, terms = values.get("hidden_size"), values.get("pos_att_type") or ()
    if values.get("pooler_hidden_size", width) != width:
        raise ValueError(f"pooler_hidden_size {values['pooler_hidden_size']} should be hidden_size {width}")
    narrow = values.get("embedding_size", width)
    span, legacy = values.get("max_relative_positions") or -1, values.get("legacy", True)
    return {
        **read_common(values),
        "classifier_dropout": values.get("cls_dropout"),
        "positions": "absolute" if values.get("position_biased_input", True) else "none",
        "embedding_size": None if narrow == width else narrow,
        "embedding_projection": "none" if narrow == width else "before_norm",
        "relative_span": span if span > 0 else None,
        "position_terms": [term.strip() for term in terms.lower().split("|")]
        if isinstance(terms, str)
        else terms,
        "pooler_activation": ours_of(values.get("pooler_hidden_act") or "gelu"),
        "tie_embeddings": values.get("tie_word_embeddings", True) or not legacy,
        "legacy_mlm": legacy,
        "mask_decoder_steps": values.get(MASK_DECODER, 0),
    }


def write_shape(config: EncoderConfig) -> dict[str, Any]:
    """The keys that :func:`read_shape` reads."""
    narrow = {} if config.embedding_size is None else {"embedding_size": config.embedding_size}
    steps = {MASK_DECODER: config.mask_decoder_steps} if config.mask_decoder_steps else {}
    return {
        **write_common(config),
        **narrow,
        **steps,
        "cls_dropout": config.classifier_dropout,
        "position_biased_input": config.positions == "absolute",
        "max_relative_positions": config.relative_span or -1,
        "pos_att_type": list(config.position_terms),
        "pooler_hidden_act": theirs_of(config.pooler_activation),
        "pooler_hidden_size": config.d_model,
        "pooler_dropout": 0.0,
        "legacy": config.legacy_mlm,
    }


FAMILY = replace(
    BERT,
    name="deberta",
    model_type="deberta",
    architectures=architectures("Deberta", without=("pretraining", "multiple_choice")),
    keys={**KEYS, "relative_attention": "relative_attention"},
    defaults={**DEFAULTS, "vocab_size": 50265, "n_segments": 0, "norm_eps": 1e-7},
    fixed={
        **{name: value for name, value in FIXED.items() if name in ("n_groups", "dense_classifier", "mlm_activation")},
        "attention": "disentangled", "mask_embeddings": True, "body_pooler": False, "soft_labels": True,
        "key_bias": False, "relative_key_bias": False, "share_relative_projections": False,
        "relative_buckets": None, "relative_norm": False, "conv_kernel": 0,
    },
    required={"talking_head": False},
    modules={
        **MODULES,
        "blocks.{}.attention.q_proj": _IN_PROJ,
        "blocks.{}.attention.k_proj": _IN_PROJ,
        "blocks.{}.attention.v_proj": _IN_PROJ,
        "blocks.{}.attention.position_k_proj": LAYER + "attention.self.pos_proj",
        "blocks.{}.attention.position_q_proj": LAYER + "attention.self.pos_q_proj",
    },
    parameters={
        "blocks.{}.attention.q_proj.bias": LAYER + "attention.self.q_bias",
        "blocks.{}.attention.v_proj.bias": LAYER + "attention.self.v_bias",
    },
    prefix="deberta",
    head_modules={
        **HEADS,
        "masked_lm, enhanced": {
            "head.dense": "lm_predictions.lm_head.dense",
            "head.norm": "lm_predictions.lm_head.LayerNorm",
            "head.bias": "lm_predictions.lm_head.bias",
        },
        "sequence_classification": WITH_POOLER,
        "multiple_choice": WITH_POOLER,
    },
    head_variant=lambda config: ", enhanced" if config.task == "masked_lm" and not config.legacy_mlm else "",
    ignored=("position_ids", "position_embeddings.weight", "predictions.decoder.weight", "predictions.decoder.bias"),
    read=read_shape,
    write=write_shape,
    cite="He et al. 2020, arXiv 2006.03654",
)  # fmt: skip
