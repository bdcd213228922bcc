"""Small models of every family, of odd sizes, made from the presets so that each family's switches are real."""

from __future__ import annotations

from typing import Any

from arriero.models.config import ModelConfig
from arriero.models.preset import preset_config

PRESETS = {
    "gpt1": "gpt1",
    "gpt2": "gpt2",
    "llama": "llama-7b",
    "mistral": "mistral-7b",
    "gpt_neox": "pythia-70m",
    "opt": "opt-125m",
    "bloom": "bloom-560m",
    "falcon": "falcon-7b",
    "mpt": "mpt-7b",
    "starcoder": "starcoder",
    "gopher": "gopher-44m",
    "codegeex": "codegeex-13b",
    "bert": "bert-base",
    "roberta": "roberta-base",
    "albert": "albert-base",
    "deberta": "deberta-base",
    "deberta_v2": "deberta-v3-base",
    "longformer": "longformer-base",
    "transformer": "transformer-base",
    "bart": "bart-base",
    "t5": "t5-small",
    "feedforward": "feedforward-384",
    "rnn": "rnn-320",
    "lstm": "lstm-320",
}
DECODERS = tuple(PRESETS)[:12]


def small(family: str, layers: int = 3, **changes: Any) -> ModelConfig:
    """A model of the family with ``layers`` blocks (on either side) of which every size is small."""
    config = preset_config(PRESETS[family])
    sizes: dict[str, Any] = {"vocab_size": 83, "d_model": 24, "n_layers": layers, "d_ff": 52, "n_heads": 3}
    sizes |= {"encoder_layers": layers, "decoder_layers": layers + 1, "encoder_d_ff": 44, "decoder_d_ff": 36}
    sizes |= {"encoder_heads": 3, "decoder_heads": 2, "head_dim": 8, "sliding_window": 7, "rotary_dim": 4}
    sizes |= {"context_length": 64, "embedding_size": 12, "windows": (4, 8) * layers, "relative_buckets": 16}
    sizes |= {"relative_max_distance": 20, "d_embedding": 10, "window": 5, "n_kv_heads": 3}
    sizes["windows"] = sizes["windows"][:layers]
    values = config.model_dump()
    kept = {k: v for k, v in sizes.items() if values.get(k) is not None and (v or k not in values)}
    if values.get("n_kv_heads") == 1:
        kept["n_kv_heads"] = 1
    if family in ("deberta", "deberta_v2"):
        kept["conv_kernel"] = 3 if family == "deberta_v2" else 0
    return type(config).model_validate({**values, **kept, **changes})
