"""The original Transformer (Vaswani et al., arXiv 1706.03762); its folders are Marian's, as transformers names them.

Marian puts all sines of its positions before all cosines. The paper's order, by turns, is what ``positions`` is by
default; a folder then holds the tables, which transformers reads, and says so in the key SINUSOIDS.
"""

from __future__ import annotations

from typing import Any

from arriero.errors import ArrieroError
from arriero.models.family import Family
from arriero.models.layers.activation_names import ours_of, theirs_of
from arriero.models.seq2seq_config import Seq2SeqConfig

SINUSOIDS = "sinusoids"


def read_common(values: dict[str, Any]) -> dict[str, Any]:
    """What BART and Marian say alike, and no table can: the activation's name, several end tokens."""
    eos = values.get("eos_token_id")
    tied = values.get("tie_word_embeddings") is not False
    found: dict[str, Any] = {
        "activation": ours_of(values.get("activation_function", "gelu")),
        "tie_embeddings": tied,
        "share_embeddings": tied and values.get("share_encoder_decoder_embeddings") is not False,
    }
    if isinstance(eos, list) and eos:
        found["eos_id"] = eos[0]
    return found


def write_common(config: Seq2SeqConfig) -> dict[str, Any]:
    """Keys of config.json that no table says.

    Raises:
        ArrieroError: transformers has no such model.
    """
    if config.share_embeddings and not config.tie_embeddings:
        raise ArrieroError(
            f"a folder of the family {config.family} with a head of its own (tie_embeddings false) has two tables too: "
            "set share_embeddings to false"
        )
    return {
        "activation_function": theirs_of(config.activation),
        "num_hidden_layers": config.encoder_layers,
        "is_encoder_decoder": True,
        "tie_word_embeddings": config.tie_embeddings,
        "forced_eos_token_id": None,
        # as the model was trained; a turn's end, which other models have besides, is nothing to it
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
    }


def _read(values: dict[str, Any]) -> dict[str, Any]:
    order = values.get(SINUSOIDS, "halves")
    found = {
        **read_common(values),
        "positions": "sinusoidal" if order == "interleaved" else "sinusoidal_halves",
    }
    rows = values.get("decoder_vocab_size")
    return (
        found
        if found["share_embeddings"] or rows == values.get("vocab_size")
        else {**found, "decoder_vocab_size": rows}
    )


def _write(config: Seq2SeqConfig) -> dict[str, Any]:
    order = "interleaved" if config.positions == "sinusoidal" else "halves"
    return {
        **write_common(config),
        "share_encoder_decoder_embeddings": config.share_embeddings,
        "decoder_vocab_size": config.target_vocab_size,
        SINUSOIDS: order,
    }


def tables_of(config: Seq2SeqConfig) -> dict[str, str]:
    """Names of the embedding tables: one for all, or one for each side."""
    if config.share_embeddings:
        return {"embedding": "shared"}
    return {"embedding": "encoder.embed_tokens", "decoder_embedding": "decoder.embed_tokens"}


def settle_tables(config: Seq2SeqConfig, names: set[str]) -> Seq2SeqConfig:
    """transformers 4 keeps one table beside a head of its own, transformers 5 two; only the file tells."""
    own = any(name.endswith("encoder.embed_tokens.weight") for name in names)
    return config if config.tie_embeddings else config.model_copy(update={"share_embeddings": not own})


FAMILY = Family(
    name="transformer",
    model_type="marian",
    config=Seq2SeqConfig,
    network="arriero.models.seq2seq:Seq2Seq",
    architectures={"MarianMTModel": "seq2seq", "MarianModel": "none"},
    keys={
        "vocab_size": "vocab_size",
        "d_model": "d_model",
        "encoder_layers": "encoder_layers",
        "decoder_layers": "decoder_layers",
        "encoder_heads": "encoder_attention_heads",
        "decoder_heads": "decoder_attention_heads",
        "encoder_d_ff": "encoder_ffn_dim",
        "decoder_d_ff": "decoder_ffn_dim",
        "context_length": "max_position_embeddings",
        "scale_embedding": "scale_embedding",
        "dropout": "dropout",
        "init_std": "init_std",
        "pad_id": "pad_token_id",
        "eos_id": "eos_token_id",
        "start_id": "decoder_start_token_id",
    },
    defaults={
        "vocab_size": 58101,
        "d_model": 1024,
        "encoder_layers": 12,
        "decoder_layers": 12,
        "encoder_heads": 16,
        "decoder_heads": 16,
        "encoder_d_ff": 4096,
        "decoder_d_ff": 4096,
        "context_length": 1024,
        "scale_embedding": False,
        "dropout": 0.1,
        "init_std": 0.02,
        "pad_id": 58100,
        "eos_id": 0,
        "start_id": 58100,
    },
    fixed={
        "head_dim": None,
        "position_offset": 0,
        "norm": "layer",
        "norm_eps": 1e-5,
        "arrangement": "post",
        "embedding_norm": False,
        "gated": False,
        "bias": True,
        "scale_attention": True,
        "scale_head": False,
        "head_bias": True,
    },
    modules={
        "encoder.blocks.{}.attention.q_proj": "encoder.layers.{}.self_attn.q_proj",
        "encoder.blocks.{}.attention.k_proj": "encoder.layers.{}.self_attn.k_proj",
        "encoder.blocks.{}.attention.v_proj": "encoder.layers.{}.self_attn.v_proj",
        "encoder.blocks.{}.attention.o_proj": "encoder.layers.{}.self_attn.out_proj",
        "encoder.blocks.{}.attention_norm": "encoder.layers.{}.self_attn_layer_norm",
        "encoder.blocks.{}.feed_forward.up_proj": "encoder.layers.{}.fc1",
        "encoder.blocks.{}.feed_forward.down_proj": "encoder.layers.{}.fc2",
        "encoder.blocks.{}.feed_forward_norm": "encoder.layers.{}.final_layer_norm",
        "decoder.blocks.{}.attention.q_proj": "decoder.layers.{}.self_attn.q_proj",
        "decoder.blocks.{}.attention.k_proj": "decoder.layers.{}.self_attn.k_proj",
        "decoder.blocks.{}.attention.v_proj": "decoder.layers.{}.self_attn.v_proj",
        "decoder.blocks.{}.attention.o_proj": "decoder.layers.{}.self_attn.out_proj",
        "decoder.blocks.{}.attention_norm": "decoder.layers.{}.self_attn_layer_norm",
        "decoder.blocks.{}.cross_attention.q_proj": "decoder.layers.{}.encoder_attn.q_proj",
        "decoder.blocks.{}.cross_attention.k_proj": "decoder.layers.{}.encoder_attn.k_proj",
        "decoder.blocks.{}.cross_attention.v_proj": "decoder.layers.{}.encoder_attn.v_proj",
        "decoder.blocks.{}.cross_attention.o_proj": "decoder.layers.{}.encoder_attn.out_proj",
        "decoder.blocks.{}.cross_attention_norm": "decoder.layers.{}.encoder_attn_layer_norm",
        "decoder.blocks.{}.feed_forward.up_proj": "decoder.layers.{}.fc1",
        "decoder.blocks.{}.feed_forward.down_proj": "decoder.layers.{}.fc2",
        "decoder.blocks.{}.feed_forward_norm": "decoder.layers.{}.final_layer_norm",
    },
    modules_of=tables_of,
    parameters={
        "encoder.sinusoids": "encoder.embed_positions.weight",
        "decoder.sinusoids": "decoder.embed_positions.weight",
    },
    prefix="model",
    head_modules={"seq2seq": {"head": "lm_head", "head_bias": "final_logits_bias"}},
    ignored=(
        "shared.weight",
        "embed_tokens.weight",
        "embed_positions.weight",
        "encoder.version",
        "decoder.version",
    ),
    optional=("final_logits_bias",),
    read=_read,
    write=_write,
    settle=settle_tables,
    cite="Vaswani et al. 2017, arXiv 1706.03762",
)
