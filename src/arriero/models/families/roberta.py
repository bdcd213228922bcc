"""RoBERTa (Liu et al., arXiv 1907.11692): BERT's body; positions count from the padding's id + 1, heads of its own."""

from __future__ import annotations

from dataclasses import replace

from arriero.models.families.bert import DEFAULTS, FIXED, HEADS, architectures
from arriero.models.families.bert import FAMILY as BERT

FAMILY = replace(
    BERT,
    name="roberta",
    model_type="roberta",
    architectures=architectures("Roberta", without=("pretraining",)),
    defaults={**DEFAULTS, "vocab_size": 50265, "pad_id": 1},
    fixed={**FIXED, "positions": "skip_padding", "dense_classifier": True, "mlm_activation": "gelu"},
    prefix="roberta",
    head_modules={
        **HEADS,
        "masked_lm": {
            "head.dense": "lm_head.dense",
            "head.norm": "lm_head.layer_norm",
            "head.decoder": "lm_head.decoder",
            "head.bias": "lm_head.bias",
        },
        "sequence_classification": {"head.dense": "classifier.dense", "head.out": "classifier.out_proj"},
    },
    twins={"lm_head.bias": "lm_head.decoder.bias"},
    ignored=("position_ids", "pooler.dense.weight", "pooler.dense.bias", "decoder.weight", "decoder.bias"),
    cite="Liu et al. 2019, arXiv 1907.11692",
)
