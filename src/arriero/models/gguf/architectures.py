"""GGUF's architectures and Hugging Face's, as tables: metadata keys, tensor names, and how rows are laid out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from arriero.errors import ArrieroError, did_you_mean
from arriero.models.weight_source import interleaved, short


@dataclass(frozen=True)
class Architecture:
    """What is special about one architecture. ``{}`` in a name stands for the layer's number."""

    name: str
    """``general.architecture``, which also begins its metadata keys."""
    classes: Mapping[str, str]
    """config.json's ``model_type`` -> class, of the models that have this architecture; the first is what one reads."""
    keys: Mapping[str, str]
    """config.json's key -> metadata key without the architecture's name."""
    modules: Mapping[str, str]
    """GGUF's module -> Hugging Face's, in the order in which they are written."""
    rotary: bool = True
    permuted: Mapping[str, str] = field(default_factory=dict)
    """Module whose rows are in interleaved order -> config.json's key of its number of heads."""
    transposed: tuple[str, ...] = ()
    """Modules that Hugging Face stores as [in, out] (GPT-2's Conv1D)."""
    kept_float32: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """config.json's values that this architecture always has; another value is refused when writing."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What transformers takes where config.json is silent."""
    derived: tuple[str, ...] = ()
    """GGUF tensors that follow from the configuration."""

    @property
    def layers_key(self) -> str:
        return next(key for key, theirs in self.keys.items() if theirs == "block_count")

    def tensor_names(self, n_layers: int) -> Iterator[tuple[str, str, str]]:
        """(GGUF's name, Hugging Face's name, GGUF's module with ``{}``) of every tensor that there may be."""
        singles = [name for name in self.modules if "{}" not in name]
        repeated = [name for name in self.modules if "{}" in name]
        first = [name for name in singles if not name.startswith("output")]
        last = [name for name in singles if name.startswith("output")]
        for leaf in ("weight", "bias"):
            for module in first:
                yield f"{module}.{leaf}", f"{self.modules[module]}.{leaf}", module
        for layer in range(n_layers):
            for module in repeated:
                for leaf in ("weight", "bias"):
                    ours, theirs = module.format(layer), self.modules[module].format(layer)
                    yield f"{ours}.{leaf}", f"{theirs}.{leaf}", module
        for module in last:
            for leaf in ("weight", "bias"):
                yield f"{module}.{leaf}", f"{self.modules[module]}.{leaf}", module

    def stored_view(self, module: str, tensor: Tensor, values: Mapping[str, Any]) -> Tensor:
        """Hugging Face's ``tensor`` seen in the order of GGUF's values; writing into the view converts back.

        Args:
            values: the model's config.json.
        """
        if module in self.permuted:
            return interleaved(tensor, values[self.permuted[module]])
        return tensor.t() if module in self.transposed and tensor.dim() == 2 else tensor


_LLAMA_MODULES = {
    "token_embd": "model.embed_tokens",
    "blk.{}.attn_norm": "model.layers.{}.input_layernorm",
    "blk.{}.attn_q": "model.layers.{}.self_attn.q_proj",
    "blk.{}.attn_k": "model.layers.{}.self_attn.k_proj",
    "blk.{}.attn_v": "model.layers.{}.self_attn.v_proj",
    "blk.{}.attn_output": "model.layers.{}.self_attn.o_proj",
    "blk.{}.ffn_norm": "model.layers.{}.post_attention_layernorm",
    "blk.{}.ffn_gate": "model.layers.{}.mlp.gate_proj",
    "blk.{}.ffn_up": "model.layers.{}.mlp.up_proj",
    "blk.{}.ffn_down": "model.layers.{}.mlp.down_proj",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LLAMA_KEYS = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_LLAMA_DEFAULTS = {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "rope_theta": 10000.0}

LLAMA = Architecture(
    name="llama",
    classes={"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"},
    keys=_LLAMA_KEYS,
    modules=_LLAMA_MODULES,
    permuted={"blk.{}.attn_q": "num_attention_heads", "blk.{}.attn_k": "num_key_value_heads"},
    fixed={"hidden_act": "silu"},
    defaults=_LLAMA_DEFAULTS,
    derived=("rope_freqs.weight", "attn_rot_embd.weight"),
)
QWEN2 = Architecture(
    name="qwen2",
    classes={"qwen2": "Qwen2ForCausalLM"},
    keys=_LLAMA_KEYS,
    modules=_LLAMA_MODULES,
    fixed={"hidden_act": "silu", "use_sliding_window": False},
    defaults=_LLAMA_DEFAULTS,
)
GPT2 = Architecture(
    name="gpt2",
    classes={"gpt2": "GPT2LMHeadModel"},
    keys={
        "n_layer": "block_count",
        "n_positions": "context_length",
        "n_embd": "embedding_length",
        "n_inner": "feed_forward_length",
        "n_head": "attention.head_count",
        "layer_norm_epsilon": "attention.layer_norm_epsilon",
    },
    modules={
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        "blk.{}.attn_norm": "transformer.h.{}.ln_1",
        "blk.{}.attn_qkv": "transformer.h.{}.attn.c_attn",
        "blk.{}.attn_output": "transformer.h.{}.attn.c_proj",
        "blk.{}.ffn_norm": "transformer.h.{}.ln_2",
        "blk.{}.ffn_up": "transformer.h.{}.mlp.c_fc",
        "blk.{}.ffn_down": "transformer.h.{}.mlp.c_proj",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
    },
    rotary=False,
    transposed=("blk.{}.attn_qkv", "blk.{}.attn_output", "blk.{}.ffn_up", "blk.{}.ffn_down"),
    kept_float32=("position_embd",),
    fixed={
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    },
    defaults={"tie_word_embeddings": True, "layer_norm_epsilon": 1e-5},
)

ARCHITECTURES = {kind.name: kind for kind in (LLAMA, QWEN2, GPT2)}


def architecture(name: object, where: str) -> Architecture:
    """The architecture that ``general.architecture`` names.

    Raises:
        ArrieroError: Arriero does not have it.
    """
    if not isinstance(name, str) or name not in ARCHITECTURES:
        told = short(name)
        raise ArrieroError(f"{where}: GGUF architecture '{told}'{did_you_mean(told, ARCHITECTURES)}")
    return ARCHITECTURES[name]


def architecture_of(values: Mapping[str, Any], where: str) -> Architecture:
    """The architecture that a model of this config.json is written as.

    Raises:
        ArrieroError: llama.cpp has no such architecture, or Arriero does not write it.
    """
    model_type, named = str(values.get("model_type")), values.get("architectures") or []
    for kind in ARCHITECTURES.values():
        if model_type in kind.classes and list(named) in ([], [kind.classes[model_type]]):
            return kind
    known = ", ".join(name for kind in ARCHITECTURES.values() for name in kind.classes.values())
    raise ArrieroError(
        f"{where}: a {named[0] if named else model_type} cannot be written as GGUF; {known} can"
    )
