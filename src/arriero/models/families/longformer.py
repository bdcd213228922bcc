"""Longformer (Beltagy et al., arXiv 2004.05150), Lawformer's base: RoBERTa with a sliding window and global tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arriero.models.encoder_config import EncoderConfig
from arriero.models.families.bert import DEFAULTS, LAYER, architectures, read_common, write_common
from arriero.models.families.roberta import FAMILY as ROBERTA


def _read(values: dict[str, Any]) -> dict[str, Any]:
    window = values.get("attention_window", 512)
    layers = values.get("num_hidden_layers", DEFAULTS["n_layers"])
    return {**read_common(values), "windows": [window] * layers if isinstance(window, int) else window}


def _write(config: EncoderConfig) -> dict[str, Any]:
    return {**write_common(config), "attention_window": list(config.windows or ())}


FAMILY = replace(
    ROBERTA,
    name="longformer",
    model_type="longformer",
    architectures=architectures("Longformer", without=("pretraining",)),
    keys={**ROBERTA.keys, "sep_id": "sep_token_id"},
    defaults={**DEFAULTS, "pad_id": 1, "sep_id": 2},
    fixed={**ROBERTA.fixed, "attention": "window"},
    required={},
    modules={
        **ROBERTA.modules,
        "blocks.{}.attention.global_q_proj": LAYER + "attention.self.query_global",
        "blocks.{}.attention.global_k_proj": LAYER + "attention.self.key_global",
        "blocks.{}.attention.global_v_proj": LAYER + "attention.self.value_global",
    },
    prefix="longformer",
    read=_read,
    write=_write,
    cite="Beltagy et al. 2020, arXiv 2004.05150; Lawformer: Xiao et al. 2021, arXiv 2105.03887",
)
