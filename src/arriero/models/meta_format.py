"""Llama as Meta gives it out: ``params.json`` and ``consolidated.NN.pth``, one file for each model-parallel rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arriero.errors import ArrieroError, did_you_mean
from arriero.models.torch_archive import TorchArchive
from arriero.models.torch_pickle import ArchivedTensor
from arriero.models.weight_source import WeightSource, check_figure, interleaved

PARAMS = "params.json"

_SINGLES = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.wq.weight": "self_attn.q_proj.weight",
    "attention.wk.weight": "self_attn.k_proj.weight",
    "attention.wv.weight": "self_attn.v_proj.weight",
    "attention.wo.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "feed_forward.w1.weight": "mlp.gate_proj.weight",
    "feed_forward.w3.weight": "mlp.up_proj.weight",
    "feed_forward.w2.weight": "mlp.down_proj.weight",
}
_COLUMNS = ("attention.wo.weight", "feed_forward.w2.weight")
"""Cut between ranks along the inputs (fairscale's RowParallelLinear); other matrices along the outputs."""
_SMALL_3_2 = 3072
"""Width up to which a model with scaled rotary frequencies is of Llama 3.2's text models (1B, 3B)."""


class MetaModel(WeightSource):
    """Reads such a folder; the shards are put together while they are read."""

    def __init__(self, folder: Path) -> None:
        """Read the headers.

        Raises:
            ArrieroError: a file is missing, damaged or refused, or its figures contradict each other.
        """
        self.path = folder
        self.metadata = _read_params(folder / PARAMS)
        shards = sorted(folder.glob("consolidated.*.pth"))
        if not shards:
            raise ArrieroError(f"{folder} has no consolidated.00.pth")
        wanted = [f"consolidated.{rank:02}.pth" for rank in range(len(shards))]
        if [shard.name for shard in shards] != wanted:
            missing = min(set(wanted) - {shard.name for shard in shards})
            raise ArrieroError(f"{folder} has {len(shards)} shards, but {missing} is missing")
        self._shards: list[TorchArchive] = []
        try:
            for shard in shards:
                self._shards.append(TorchArchive(shard))
            self._config = self._read_config()
            self._names = self._name_tensors()
        except BaseException:
            self.close()
            raise

    def hf_config(self) -> dict[str, Any]:
        return dict(self._config)

    def names(self) -> set[str]:
        return set(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        theirs = self._theirs(name)
        parts = [self._part(shard, theirs).shape for shard in self._shards]
        axis = self._axis(theirs)
        for rank, part in enumerate(parts):
            if part != parts[0]:
                raise ArrieroError(
                    f"{self._shards[rank].path}: tensor {theirs} has shape {list(part)}, not {list(parts[0])} as in rank 0"
                )
        shape = list(parts[0])
        if axis is not None and len(parts) > 1:
            shape[axis] *= len(parts)
        return tuple(shape)

    def dtype(self, name: str) -> torch.dtype:
        return self._part(self._shards[0], self._theirs(name)).dtype

    def read_into(self, name: str, out: Tensor) -> None:
        theirs, shape = self._theirs(name), self.shape(name)
        if tuple(out.shape) != shape:
            raise ArrieroError(f"{self.path}: tensor {name} has shape {list(shape)}")
        axis, view = self._axis(theirs), self._stored_view(theirs, out)
        if axis is None or len(self._shards) == 1:
            self._shards[0].read_into(theirs, view)
            return
        for shard, part in zip(self._shards, view.chunk(len(self._shards), axis), strict=True):
            shard.read_into(theirs, part)

    def special_ids(self) -> dict[str, Any]:
        """None of them: they are the tokenizer's."""
        return {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

    def close(self) -> None:
        for shard in self._shards:
            shard.close()

    # ------------------------------------------------------------------------------------- set-up

    def _theirs(self, name: str) -> str:
        if name not in self._names:
            raise ArrieroError(f"{self.path} has no tensor {name}{did_you_mean(name, self._names)}")
        return self._names[name]

    def _part(self, shard: TorchArchive, name: str) -> ArchivedTensor:
        if name not in shard.tensors:
            raise ArrieroError(f"{shard.path}: tensor {name} is missing")
        return shard.tensors[name]

    def _axis(self, name: str) -> int | None:
        """The dimension along which the ranks' parts are put together; None where each has the whole."""
        part = self._part(self._shards[0], name)
        if len(part.shape) != 2:
            return None
        if name == "tok_embeddings.weight":  # Llama 1 and 2 cut the width, Llama 3 the vocabulary
            return 0 if part.shape[1] == self._config["hidden_size"] else 1
        return 1 if name.endswith(_COLUMNS) else 0

    def _stored_view(self, name: str, out: Tensor) -> Tensor:
        """``out`` in the order of Meta's rows: whole heads stay together, so ranks hold the first, the next ... heads."""
        for ending, key in (
            ("attention.wq.weight", "num_attention_heads"),
            ("attention.wk.weight", "num_key_value_heads"),
        ):
            if name.endswith(ending):
                heads = self._config[key]
                if out.shape[0] % (2 * heads) or heads % len(self._shards):
                    raise ArrieroError(f"{self.path}: tensor {name} cannot be cut into {heads} heads")
                return interleaved(out, heads)
        return out

    def _name_tensors(self) -> dict[str, str]:
        """Hugging Face's name -> Meta's; a tensor without place keeps its name. ``rope.freqs`` follows from the base."""
        known = dict(_SINGLES)
        for layer in range(self._config["num_hidden_layers"]):
            known |= {
                f"layers.{layer}.{ours}": f"model.layers.{layer}.{theirs}" for ours, theirs in _LAYER.items()
            }
        found = set().union(*(shard.tensors for shard in self._shards))
        return {known.get(name, name): name for name in found if not name.endswith("rope.freqs")}

    def _read_config(self) -> dict[str, Any]:
        params, where = self.metadata, str(self.path / PARAMS)
        width, layers, heads = (check_figure(params, key, where) for key in ("dim", "n_layers", "n_heads"))
        first = self._shards[0].tensors
        if layers > len(first):
            raise ArrieroError(f"{where}: n_layers is {layers}, more than there are tensors")
        if params.get("moe_args") or params.get("vision_chunk_size"):
            raise ArrieroError(f"{where}: experts and images are not part of Arriero's Llama")
        if width % heads:
            raise ArrieroError(f"{where}: dim {width} is not a multiple of n_heads {heads}")
        values = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads
            if params.get("n_kv_heads") is None
            else check_figure(params, "n_kv_heads", where),
            "head_dim": width // heads,
            "rms_norm_eps": params.get("norm_eps", 1e-5),
            "max_position_embeddings": _context_length(params, where),
            "rope_theta": params.get("rope_theta", 10000.0),
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": "output.weight" not in first,
        }
        if params.get("use_scaled_rope"):
            values["rope_scaling"] = _scaled_rope(params)
        self._config = values
        rows, ff = (
            self._rows("tok_embeddings.weight", width),
            self._rows("layers.0.feed_forward.w1.weight", width),
        )
        dtype = str(self._part(self._shards[0], "tok_embeddings.weight").dtype).removeprefix("torch.")
        values |= {"vocab_size": rows, "intermediate_size": ff, "torch_dtype": dtype, "dtype": dtype}
        for name, count in (("wq", heads), ("wk", values["num_key_value_heads"])):
            wanted, found = count * values["head_dim"], self._rows(f"layers.0.attention.{name}.weight", width)
            if found != wanted:
                raise ArrieroError(f"{self.path}: {name} has {found} rows, {PARAMS} asks for {wanted}")
        return values

    def _rows(self, name: str, width: int) -> int:
        """Rows of a matrix over all ranks; its width must be the model's."""
        part = self._part(self._shards[0], name)
        axis = self._axis(name)
        whole = [size * (len(self._shards) if axis == at else 1) for at, size in enumerate(part.shape)]
        if len(whole) != 2 or whole[1] != width:
            raise ArrieroError(
                f"{self.path}: tensor {name} has shape {whole}, {PARAMS} asks for a width of {width}"
            )
        return whole[0]


def open_meta(folder: Path | str) -> MetaModel:
    """Open a folder with ``params.json`` and ``consolidated.*.pth``; nothing in it is ever unpickled.

    Raises:
        ArrieroError: it is not such a folder, or a file holds anything but tensors.
    """
    return MetaModel(Path(folder))


def _read_params(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ArrieroError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ArrieroError(f"{path} should hold a JSON object")
    return values


def _scaled_rope(params: dict[str, Any]) -> dict[str, Any]:
    """Llama 3.1's scaling. ``params.json`` says only that there is one; 3.2's small models take factor 32, not 8."""
    factor = params.get("rope_scaling_factor", 32.0 if params["dim"] <= _SMALL_3_2 else 8.0)
    return {
        "rope_type": "llama3",
        "factor": float(factor),
        "low_freq_factor": 1.0,
        "high_freq_factor": float(params.get("rope_high_freq_factor", 4.0)),
        "original_max_position_embeddings": 8192,
    }


def _context_length(params: dict[str, Any], where: str) -> int:
    """``max_seq_len`` if it is there; else that of the generation whose figures these are (``params.json`` has none)."""
    if params.get("max_seq_len") is not None:
        return check_figure(params, "max_seq_len", where)
    if params.get("use_scaled_rope"):
        return 131072  # Llama 3.1 and 3.2
    theta = params.get("rope_theta", 10000.0)
    if theta == 500000.0:
        return 8192  # Llama 3
    if theta == 1000000.0:
        return 16384  # Code Llama
    return 4096 if params.get("norm_eps") == 1e-5 else 2048  # Llama 2, Llama 1
