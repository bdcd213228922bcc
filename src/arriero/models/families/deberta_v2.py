"""DeBERTa v2 and v3 (He et al., arXiv 2111.09543): buckets of distances, shared projections, a convolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arriero.models.encoder_config import EncoderConfig
from arriero.models.families.bert import LAYER, architectures
from arriero.models.families.deberta import FAMILY as DEBERTA
from arriero.models.families.deberta import MODULES, read_shape, write_shape
from arriero.models.layers.activation_names import ours_of, theirs_of

_SWITCHED = ("share_relative_projections", "relative_buckets", "relative_norm", "conv_kernel")


def _read(values: dict[str, Any]) -> dict[str, Any]:
    buckets = values.get("position_buckets") or -1
    norms = [kind.strip() for kind in str(values.get("norm_rel_ebd") or "none").lower().split("|")]
    return {
        **read_shape(values),
        "relative_buckets": buckets if buckets > 0 else None,
        "relative_norm": "layer_norm" in norms,
        "conv_activation": ours_of(values.get("conv_act") or "tanh"),
    }


def _write(config: EncoderConfig) -> dict[str, Any]:
    return {
        **write_shape(config),
        "position_buckets": config.relative_buckets or -1,
        "norm_rel_ebd": "layer_norm" if config.relative_norm else "none",
        "conv_act": theirs_of(config.conv_activation),
    }


FAMILY = replace(
    DEBERTA,
    name="deberta_v2",
    model_type="deberta-v2",
    architectures=architectures("DebertaV2", without=("pretraining",)),
    keys={
        **DEBERTA.keys,
        "share_relative_projections": "share_att_key",
        "conv_kernel": "conv_kernel_size",
        "conv_groups": "conv_groups",
    },
    defaults={
        **DEBERTA.defaults, "vocab_size": 128100, "d_model": 1536, "n_layers": 24, "n_heads": 24, "d_ff": 6144,
    },
    fixed={
        **{name: value for name, value in DEBERTA.fixed.items() if name not in _SWITCHED},
        "key_bias": True, "relative_key_bias": True,
    },
    required={},
    modules={
        **MODULES,
        "blocks.{}.attention.q_proj": LAYER + "attention.self.query_proj",
        "blocks.{}.attention.k_proj": LAYER + "attention.self.key_proj",
        "blocks.{}.attention.v_proj": LAYER + "attention.self.value_proj",
        "blocks.{}.attention.position_k_proj": LAYER + "attention.self.pos_key_proj",
        "blocks.{}.attention.position_q_proj": LAYER + "attention.self.pos_query_proj",
        "positions.norm": "encoder.LayerNorm",
        "conv.conv": "encoder.conv.conv",
        "conv.norm": "encoder.conv.LayerNorm",
    },
    parameters={},
    ignored=(*DEBERTA.ignored, "mask_predictions.dense.weight", "mask_predictions.dense.bias",
             "mask_predictions.classifier.weight", "mask_predictions.classifier.bias",
             "mask_predictions.LayerNorm.weight", "mask_predictions.LayerNorm.bias"),
    read=_read,
    write=_write,
    cite="He et al. 2021, arXiv 2111.09543",
)  # fmt: skip
