"""llama2.c's checkpoints (``stories260K.bin`` and the like): a header of integers, then every weight as float32.

Source: ``export.py`` (legacy_export, version1_export) and ``run.c`` of https://github.com/karpathy/llama2.c.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arriero.errors import ArrieroError, did_you_mean
from arriero.models.weight_source import WeightSource, check_figure, interleaved, pieces

_FIGURES = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len")
_MAGIC, _HEADER_1 = 0x616B3432, 256
_ATTENTION_NORM, _FFN_NORM = "model.layers.{}.input_layernorm", "model.layers.{}.post_attention_layernorm"
_Q, _K = "model.layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.k_proj"


class Llama2cModel(WeightSource):
    """Reads such a file of version 0 or 1 (float32)."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ArrieroError: the file's length is not what its header asks for.
        """
        self.path = path
        try:
            self._file = path.open("rb")
            self._size = path.stat().st_size
        except OSError as error:
            raise ArrieroError(f"{path} cannot be read: {error.strerror}") from None
        try:
            self.metadata, start = self._read_header()
            self._places = self._lay_out(start)
        except BaseException:
            self._file.close()
            raise

    def hf_config(self) -> dict[str, Any]:
        figures = self.metadata
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": figures["dim"],
            "intermediate_size": figures["hidden_dim"],
            "num_hidden_layers": figures["n_layers"],
            "num_attention_heads": figures["n_heads"],
            "num_key_value_heads": figures["n_kv_heads"],
            "head_dim": figures["dim"] // figures["n_heads"],
            "vocab_size": figures["vocab_size"],
            "max_position_embeddings": figures["max_seq_len"],
            "rms_norm_eps": 1e-5,  # run.c has these two as constants
            "rope_theta": 10000.0,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": figures["tied"],
            "torch_dtype": "float32",
            "dtype": "float32",
            **self.special_ids(),
        }

    def names(self) -> set[str]:
        return set(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._place(name)[1]

    def dtype(self, name: str) -> torch.dtype:
        return torch.float32

    def read_into(self, name: str, out: Tensor) -> None:
        start, shape = self._place(name)
        if tuple(out.shape) != shape:
            raise ArrieroError(f"{self.path}: tensor {name} has shape {list(shape)}")
        view = out
        for module, heads in ((_Q, "n_heads"), (_K, "n_kv_heads")):
            if name.endswith(module.rpartition(".")[2] + ".weight"):
                view = interleaved(out, self.metadata[heads])
        for first, part in pieces(view):
            self._file.seek(start + 4 * first)
            raw = self._file.read(4 * part.numel())
            if len(raw) != 4 * part.numel():
                raise ArrieroError(f"{self.path} is cut short")
            values = np.frombuffer(raw, dtype="<f4").astype(np.float32)
            part.copy_(torch.from_numpy(values).view(part.shape))

    def special_ids(self) -> dict[str, Any]:
        """Those of Llama 2's tokenizer, which llama2.c keeps whatever the vocabulary's size."""
        return {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}

    def close(self) -> None:
        self._file.close()

    def _place(self, name: str) -> tuple[int, tuple[int, ...]]:
        if name not in self._places:
            raise ArrieroError(f"{self.path} has no tensor {name}{did_you_mean(name, self._places)}")
        return self._places[name]

    def _read_header(self) -> tuple[dict[str, Any], int]:
        head = self._file.read(_HEADER_1)
        if len(head) < 28:
            raise ArrieroError(f"{self.path} is no llama2.c checkpoint: it is too short for a header")
        versioned = int.from_bytes(head[:4], "little") == _MAGIC and len(head) == _HEADER_1
        version = int.from_bytes(head[4:8], "little") if versioned else 0
        if version > 1:
            raise ArrieroError(
                f"{self.path} has version {version}; of llama2.c's checkpoints 0 and 1 are read"
            )
        numbers = struct.unpack_from("<7i", head, 8 if versioned else 0)
        figures: dict[str, Any] = dict(zip(_FIGURES, numbers, strict=True))
        figures["version"] = version
        figures["tied"] = head[36] == 1 if versioned else figures["vocab_size"] > 0
        figures["vocab_size"] = abs(figures["vocab_size"])
        for key in _FIGURES:
            check_figure(figures, key, f"{self.path} is no llama2.c checkpoint")
        heads, kv_heads = figures["n_heads"], figures["n_kv_heads"]
        if figures["dim"] % (2 * heads) or heads % kv_heads:
            raise ArrieroError(
                f"{self.path} is no llama2.c checkpoint: {heads} and {kv_heads} heads do not fit dim {figures['dim']}"
            )
        return figures, _HEADER_1 if versioned else 28

    def _lay_out(self, start: int) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Tensor -> (first byte, shape). Each kind of weight stands for all layers in a row."""
        figures, places, at = self.metadata, {}, start
        for module, shape in self._order():
            size = 4 * torch.Size(shape).numel()
            count = figures["n_layers"] if "{}" in module else 1
            if at + size * count > self._size:
                raise ArrieroError(f"{self.path} is cut short, or no llama2.c checkpoint")
            for layer in range(count):
                if module:
                    places[f"{module.format(layer)}.weight"] = (at, shape)
                at += size
        if at != self._size:
            raise ArrieroError(f"{self.path} is {self._size} bytes long; its header asks for {at}")
        return places

    def _order(self) -> list[tuple[str, tuple[int, ...]]]:
        f = self.metadata
        d, ff, head_dim = f["dim"], f["hidden_dim"], f["dim"] // f["n_heads"]
        kv = f["n_kv_heads"] * head_dim
        embedding = ("model.embed_tokens", (f["vocab_size"], d))
        attention = [
            (_Q, (d, d)),
            (_K, (kv, d)),
            ("model.layers.{}.self_attn.v_proj", (kv, d)),
            ("model.layers.{}.self_attn.o_proj", (d, d)),
        ]
        feed_forward = [
            ("model.layers.{}.mlp.gate_proj", (ff, d)),
            ("model.layers.{}.mlp.down_proj", (d, ff)),
            ("model.layers.{}.mlp.up_proj", (ff, d)),
        ]
        norms = [(_ATTENTION_NORM, (d,)), (_FFN_NORM, (d,)), ("model.norm", (d,))]
        head = [] if f["tied"] else [("lm_head", (f["vocab_size"], d))]
        if f["version"] == 1:
            return [*norms, embedding, *attention, *feed_forward, *head]
        rotary = [("", (f["max_seq_len"], head_dim))]  # two tables, cosines and sines, each half as wide
        return [embedding, norms[0], *attention, norms[1], *feed_forward, norms[2], *rotary, *head]


def open_llama2c(path: Path | str) -> Llama2cModel:
    """Open a checkpoint of llama2.c.

    Raises:
        ArrieroError: it is not one of version 0 or 1.
    """
    return Llama2cModel(Path(path))
