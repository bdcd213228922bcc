"""T5 (Raffel et al., arXiv 1910.10683), 1.0 (ReLU, head tied and scaled) and 1.1 (gated GELU, a head of its own)."""

from __future__ import annotations

from typing import Any

from arriero.errors import ArrieroError
from arriero.models.family import Family
from arriero.models.layers.activation_names import ours_of, theirs_of
from arriero.models.seq2seq_config import Seq2SeqConfig

GATED_GELU = "gated-gelu"
"""For transformers this is the approximate GELU, unlike a plain ``gelu``."""


def _read(values: dict[str, Any]) -> dict[str, Any]:
    projection = values.get("feed_forward_proj", "relu")
    gate, _, name = projection.rpartition("-")
    if gate not in ("", "gated"):
        raise ValueError(f"feed_forward_proj '{projection}' is neither an activation nor gated-<activation>")
    tied = values.get("tie_word_embeddings") is not False
    found: dict[str, Any] = {
        "gated": gate == "gated",
        "activation": "gelu_tanh" if projection == GATED_GELU else ours_of(name),
        "tie_embeddings": tied,
        # transformers 5 keeps the scale apart from the tie, before that one meant the other
        "scale_head": values.get("scale_decoder_outputs", tied),
    }
    for ours, theirs, default in (
        ("eos_id", "eos_token_id", 1),
        ("start_id", "decoder_start_token_id", None),
    ):
        value = values.get(theirs)
        value = value[0] if isinstance(value, list) and value else value
        # T5 starts with the padding token where nothing is said
        found[ours] = next(v for v in (value, default, values.get("pad_token_id"), 0) if v is not None)
    return found


def _write(config: Seq2SeqConfig) -> dict[str, Any]:
    if config.encoder_heads != config.decoder_heads or config.encoder_d_ff != config.decoder_d_ff:
        raise ArrieroError("a folder of the family t5 has the same heads and d_ff in encoder and decoder")
    if config.gated and config.activation == "gelu":
        raise ArrieroError(
            "a folder of the family t5 cannot hold a gated exact GELU; gelu_tanh is its gated-gelu"
        )
    projection = theirs_of(config.activation)
    if config.gated:
        projection = GATED_GELU if config.activation == "gelu_tanh" else f"gated-{projection}"
    return {
        "feed_forward_proj": projection,
        "d_kv": config.head_dim or config.d_model // config.encoder_heads,
        "is_encoder_decoder": True,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": config.tie_embeddings,
        "scale_decoder_outputs": config.scale_head,
    }


def _settle(config: Seq2SeqConfig, names: set[str]) -> Seq2SeqConfig:
    """transformers 5 says that every head is tied; a model of the 1.1 kind that has one of its own stores it."""
    if config.tie_embeddings and not config.scale_head and "lm_head.weight" in names:
        return config.model_copy(update={"tie_embeddings": False})
    return config


def _feed_forward(config: Any) -> dict[str, str]:
    """The feed-forward layers' names, which tell a gated one from a plain one."""
    names = {"gate_proj": "wi_0", "up_proj": "wi_1"} if config.gated else {"up_proj": "wi"}
    return {
        f"{side}.blocks.{{}}.feed_forward.{ours}": f"{side}.block.{{}}.layer.{place}.DenseReluDense.{theirs}"
        for side, place in (("encoder", 1), ("decoder", 2))
        for ours, theirs in {**names, "down_proj": "wo"}.items()
    }


def _attention(side: str, ours: str, place: int, theirs: str) -> dict[str, str]:
    return {
        f"{side}.blocks.{{}}.{ours}.{name}_proj": f"{side}.block.{{}}.layer.{place}.{theirs}.{name}"
        for name in "qkvo"
    }


FAMILY = Family(
    name="t5",
    model_type="t5",
    config=Seq2SeqConfig,
    network="arriero.models.seq2seq:Seq2Seq",
    architectures={"T5ForConditionalGeneration": "seq2seq", "T5Model": "none"},
    keys={
        "vocab_size": "vocab_size",
        "d_model": "d_model",
        "encoder_layers": "num_layers",
        "decoder_layers": "num_decoder_layers",
        "encoder_heads": "num_heads",
        "decoder_heads": "num_heads",
        "head_dim": "d_kv",
        "encoder_d_ff": "d_ff",
        "decoder_d_ff": "d_ff",
        "context_length": "n_positions",
        "relative_buckets": "relative_attention_num_buckets",
        "relative_max_distance": "relative_attention_max_distance",
        "norm_eps": "layer_norm_epsilon",
        "dropout": "dropout_rate",
        "pad_id": "pad_token_id",
        "eos_id": "eos_token_id",
        "start_id": "decoder_start_token_id",
    },
    defaults={
        "vocab_size": 32128,
        "d_model": 512,
        "encoder_layers": 6,
        "encoder_heads": 8,
        "head_dim": 64,
        "encoder_d_ff": 2048,
        "context_length": 512,
        "relative_buckets": 32,
        "relative_max_distance": 128,
        "norm_eps": 1e-6,
        "dropout": 0.1,
        "pad_id": 0,
    },
    fixed={
        "share_embeddings": True,
        "decoder_vocab_size": None,
        "positions": "relative",
        "norm": "rms",
        "arrangement": "pre",
        "embedding_norm": False,
        "bias": False,
        "scale_embedding": False,
        "scale_attention": False,
        "head_bias": False,
        "init": "t5",
    },
    modules={
        "embedding": "shared",
        "encoder.positions_bias.table": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        "decoder.positions_bias.table": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        "encoder.blocks.{}.attention_norm": "encoder.block.{}.layer.0.layer_norm",
        "encoder.blocks.{}.feed_forward_norm": "encoder.block.{}.layer.1.layer_norm",
        "decoder.blocks.{}.attention_norm": "decoder.block.{}.layer.0.layer_norm",
        "decoder.blocks.{}.cross_attention_norm": "decoder.block.{}.layer.1.layer_norm",
        "decoder.blocks.{}.feed_forward_norm": "decoder.block.{}.layer.2.layer_norm",
        "encoder.norm": "encoder.final_layer_norm",
        "decoder.norm": "decoder.final_layer_norm",
        **_attention("encoder", "attention", 0, "SelfAttention"),
        **_attention("decoder", "attention", 0, "SelfAttention"),
        **_attention("decoder", "cross_attention", 1, "EncDecAttention"),
    },
    modules_of=_feed_forward,
    head_modules={"seq2seq": {"head": "lm_head"}},
    ignored=("embed_tokens.weight", "EncDecAttention.relative_attention_bias.weight"),
    read=_read,
    write=_write,
    settle=_settle,
    cite="Raffel et al. 2019, arXiv 1910.10683",
)
