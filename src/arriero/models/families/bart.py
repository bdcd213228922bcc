"""BART (Lewis et al., arXiv 1910.13461): the Transformer with learned positions, GELU and a norm on the embedding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arriero.errors import ArrieroError
from arriero.models.families.transformer import FAMILY as TRANSFORMER
from arriero.models.families.transformer import read_common, write_common
from arriero.models.seq2seq_config import Seq2SeqConfig


def _write(config: Seq2SeqConfig) -> dict[str, Any]:
    if config.tie_embeddings and not config.share_embeddings:
        raise ArrieroError("a folder of the family bart has one table, or two and a head of its own")
    return write_common(config)


FAMILY = replace(
    TRANSFORMER,
    name="bart",
    model_type="bart",
    architectures={"BartForConditionalGeneration": "seq2seq", "BartModel": "none"},
    defaults={**TRANSFORMER.defaults, "vocab_size": 50265, "pad_id": 1, "eos_id": 2, "start_id": 2},
    fixed={
        **TRANSFORMER.fixed,
        "positions": "learned",
        "decoder_vocab_size": None,
        "position_offset": 2,
        "embedding_norm": True,
        "init": "normal",
    },
    modules={
        **TRANSFORMER.modules,
        "encoder.positions": "encoder.embed_positions",
        "decoder.positions": "decoder.embed_positions",
        "encoder.embedding_norm": "encoder.layernorm_embedding",
        "decoder.embedding_norm": "decoder.layernorm_embedding",
    },
    parameters={},
    ignored=("shared.weight", "embed_tokens.weight", "encoder.version", "decoder.version"),
    read=read_common,
    write=_write,
    cite="Lewis et al. 2019, arXiv 1910.13461",
)
