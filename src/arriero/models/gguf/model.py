"""A model in a GGUF file, under Hugging Face's names and with Hugging Face's configuration."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arriero.errors import ArrieroError, did_you_mean
from arriero.models.gguf.architectures import Architecture, architecture
from arriero.models.gguf.container import Container, StoredTensor
from arriero.models.gguf.dequantise import decode, stored_dtype
from arriero.models.gguf.rope import FREQUENCIES, read_rope
from arriero.models.weight_source import WeightSource, check_figure, pieces, short

_SHARD = re.compile(r"(.*)-00001-of-(\d{5})\.gguf")
_MOST_PARTS = 9999


class GgufModel(WeightSource):
    """Reads a ``.gguf`` file, or the first of several that a model was split into."""

    def __init__(self, path: Path) -> None:
        """Read the headers.

        Raises:
            ArrieroError: not a readable GGUF file, an architecture that Arriero does not have, or contradictions.
        """
        self.path = path
        self._files = _open_parts(path)
        try:
            self.metadata: dict[str, Any] = self._files[0].metadata
            self._stored = {
                name: (file, tensor) for file in self._files for name, tensor in file.tensors.items()
            }
            self._architecture = architecture(self.metadata.get("general.architecture"), str(path))
            self._config = self._read_config()
            self._names = self._name_tensors()
            self._check_shapes()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------------------------- questions

    def hf_config(self) -> dict[str, Any]:
        return dict(self._config)

    def names(self) -> set[str]:
        return set(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        _, tensor, module = self._find(name)
        transposed = module in self._architecture.transposed and len(tensor.shape) == 2
        return tensor.shape[::-1] if transposed else tensor.shape

    def dtype(self, name: str) -> torch.dtype:
        return stored_dtype(self._find(name)[1].kind)

    def storage(self, name: str) -> str:
        """How the tensor is stored: F32, Q4_K ..."""
        return self._find(name)[1].kind.name

    def read_into(self, name: str, out: Tensor) -> None:
        file, tensor, module = self._find(name)
        if tuple(out.shape) != self.shape(name):
            raise ArrieroError(f"{self.path}: tensor {name} has shape {list(self.shape(name))}")
        view = self._architecture.stored_view(module, out, self._config)
        for first, part in pieces(view, tensor.kind.values):
            values = decode(file.read(tensor, first, part.numel()), tensor.kind)
            part.copy_(values.view(part.shape))

    def special_ids(self) -> dict[str, Any]:
        ends = [id for name in ("eos", "eot", "eom") if (id := self._token_id(name)) is not None]
        ends = list(dict.fromkeys(ends))
        return {
            "bos_token_id": self._token_id("bos"),
            "eos_token_id": ends if len(ends) > 1 else ends[0] if ends else None,
            "pad_token_id": self._token_id("padding"),
        }

    def close(self) -> None:
        for file in self._files:
            file.close()

    # ------------------------------------------------------------------------------------- set-up

    @property
    def chat_template(self) -> str | None:  # type: ignore[override]
        value = self.metadata.get("tokenizer.chat_template")
        return value if isinstance(value, str) else None

    def _token_id(self, name: str) -> int | None:
        value = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
        known = self._tensor("token_embd.weight").shape[0]
        return value if type(value) is int and 0 <= value < known else None

    def _find(self, name: str) -> tuple[Container, StoredTensor, str]:
        if name not in self._names:
            raise ArrieroError(f"{self.path} has no tensor {name}{did_you_mean(name, self._names)}")
        theirs, module = self._names[name]
        return *self._stored[theirs], module

    def _read_config(self) -> dict[str, Any]:
        kind, where = self._architecture, str(self.path)
        given = {key: self.metadata.get(f"{kind.name}.{theirs}") for key, theirs in kind.keys.items()}
        for key, theirs in kind.keys.items():
            if not theirs.endswith("epsilon") and given[key] is not None:
                check_figure(self.metadata, f"{kind.name}.{theirs}", where)
        if self.metadata.get(f"{kind.name}.expert_count"):
            raise ArrieroError(f"{where}: a mixture of experts is not a model that Arriero has")
        missing = [key for key in kind.keys if given[key] is None and key != "num_key_value_heads"]
        if missing:
            raise ArrieroError(f"{where}: metadata {kind.name}.{kind.keys[missing[0]]} is missing")
        model_type, hf_class = next(iter(kind.classes.items()))
        values = {"architectures": [hf_class], "model_type": model_type, **kind.fixed, **given}
        values["vocab_size"] = self._tensor("token_embd.weight").shape[0]
        values["tie_word_embeddings"] = "output.weight" not in self._stored
        values["torch_dtype"] = values["dtype"] = self._dtype_name()
        if kind.rotary:
            values |= self._rotary_values(values)
        return {**values, **self.special_ids()}

    def _rotary_values(self, values: dict[str, Any]) -> dict[str, Any]:
        name, where = self._architecture.name, str(self.path)
        heads = values["num_attention_heads"]
        kv_heads = values["num_key_value_heads"] or heads
        whole = values["hidden_size"] // heads
        prefix = f"{name}.attention."
        head_dim = self.metadata.get(f"{prefix}key_length")
        if head_dim is None:
            head_dim = whole if values["hidden_size"] % heads == 0 else None
        for key in (f"{prefix}value_length", f"{name}.rope.dimension_count"):
            if self.metadata.get(key, head_dim) != head_dim:
                raise ArrieroError(f"{where}: {key} differs from the width of a head ({short(head_dim)})")
        if type(head_dim) is not int or head_dim < 2 or head_dim % 2:
            raise ArrieroError(
                f"{where}: a head is {short(head_dim)} wide; it should be an even number from 2 on"
            )
        factors = self._stored.get(FREQUENCIES)
        stored = None
        if factors is not None:
            file, tensor = factors
            if tensor.values != head_dim // 2:
                raise ArrieroError(f"{where}: tensor {FREQUENCIES} has shape {list(tensor.shape)}")
            stored = decode(file.read(tensor, 0, tensor.values), tensor.kind).double().tolist()
        bias = {
            "attention_bias": "blk.0.attn_output.bias" in self._stored,
            "mlp_bias": "blk.0.ffn_down.bias" in self._stored,
        }
        return {
            "head_dim": head_dim,
            "num_key_value_heads": kv_heads,
            **(bias if name == "llama" else {}),
            **read_rope(self.metadata, name, head_dim, stored, where),
        }

    def _name_tensors(self) -> dict[str, tuple[str, str]]:
        """Hugging Face's name -> GGUF's and the module; a tensor without place keeps its name."""
        kind, layers = self._architecture, self._config[self._architecture.layers_key]
        if layers > len(self._stored):
            raise ArrieroError(
                f"{self.path}: {kind.name}.block_count is {layers}, more than there are tensors"
            )
        known = {theirs: (ours, module) for theirs, ours, module in kind.tensor_names(layers)}
        names = {}
        for theirs in self._stored:
            ours, module = known.get(theirs, (theirs, ""))
            if not theirs.endswith(kind.derived):
                names[ours] = (theirs, module)
        return names

    def _check_shapes(self) -> None:
        """The figures must fit the tensors before anybody makes a model of that size."""
        kind, values = self._architecture, self._config
        width, ff = (values[_key(kind, name)] for name in ("embedding_length", "feed_forward_length"))
        wanted = {"token_embd.weight": (values["vocab_size"], width), "blk.0.ffn_up.weight": (ff, width)}
        if kind.rotary:
            head_dim = values["head_dim"]
            wanted["blk.0.attn_q.weight"] = (values["num_attention_heads"] * head_dim, width)
            wanted["blk.0.attn_k.weight"] = (values["num_key_value_heads"] * head_dim, width)
        else:
            wanted["position_embd.weight"] = (values[_key(kind, "context_length")], width)
        for name, shape in wanted.items():
            if self._tensor(name).shape != shape:
                raise ArrieroError(
                    f"{self.path}: tensor {name} has shape {list(self._tensor(name).shape)}, "
                    f"the metadata ask for {list(shape)}"
                )
        for theirs, module in self._names.values():
            heads = values[kind.permuted[module]] if module in kind.permuted else 1
            if self._tensor(theirs).shape[0] % (2 * heads) and module in kind.permuted:
                raise ArrieroError(f"{self.path}: tensor {theirs} cannot be cut into {heads} heads")

    def _tensor(self, name: str) -> StoredTensor:
        if name not in self._stored:
            raise ArrieroError(f"{self.path}: tensor {name} is missing")
        return self._stored[name][1]

    def _dtype_name(self) -> str:
        kinds = Counter(tensor.kind.name for _, tensor in self._stored.values() if len(tensor.shape) > 1)
        most = max(sorted(kinds), key=lambda name: kinds[name], default="F32")
        return {"F16": "float16", "BF16": "bfloat16"}.get(most, "float32")


def _key(kind: Architecture, theirs: str) -> str:
    return next(key for key, value in kind.keys.items() if value == theirs)


def _open_parts(path: Path) -> list[Container]:
    """The file, and those that follow when it is the first part of a split model."""
    files = [Container(path)]
    try:
        count = files[0].metadata.get("split.count", 1)
        if count in (0, 1):
            return files
        if type(count) is not int or not 1 < count <= _MOST_PARTS:
            raise ArrieroError(f"{path}: split.count is {short(count)}; it should be from 1 to {_MOST_PARTS}")
        match = _SHARD.fullmatch(path.name)
        if match is None or int(match[2]) != count or files[0].metadata.get("split.no", 0) != 0:
            raise ArrieroError(
                f"{path} is a part of a split model; give the first part, NAME-00001-of-{count:05}.gguf"
            )
        for number in range(2, count + 1):
            files.append(Container(path.with_name(f"{match[1]}-{number:05}-of-{match[2]}.gguf")))
            twice = files[-1].tensors.keys() & {name for file in files[:-1] for name in file.tensors}
            if twice:
                raise ArrieroError(f"{files[-1].path}: tensor {min(twice)} stands in an earlier part too")
    except BaseException:
        for file in files:
            file.close()
        raise
    return files
