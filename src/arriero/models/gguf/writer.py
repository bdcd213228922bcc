"""Writing GGUF: the same tensors that a Hugging Face folder holds, in llama.cpp's order, types and names.

What goes where follows llama.cpp's own converter: vectors stay float32, rows that are no multiple of a type's block
are float16, and with four- and five-bit types the embedding and the head are Q8_0, for they suffer most. The size is
known from the shapes alone. Equal input gives equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.gguf.architectures import Architecture, architecture_of
from arriero.models.gguf.block_types import BY_NAME, BlockType
from arriero.models.gguf.container import ALIGNMENT, MAGIC
from arriero.models.gguf.quantise import encode
from arriero.models.gguf.rope import FREQUENCIES, write_rope
from arriero.models.tensor_files import TensorEntry
from arriero.models.weight_source import pieces

VERSION = 3
QUANTIZATION_VERSION = 2
_EMBEDDINGS = ("token_embd", "output")


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the file. ``shape`` as stored, the last dimension fastest; ``view`` puts the source in that order."""

    name: str
    source: str
    shape: tuple[int, ...]
    kind: BlockType
    read: Callable[[], Tensor]
    view: Callable[[Tensor], Tensor]

    @property
    def bytes(self) -> int:
        return self.kind.size(torch.Size(self.shape).numel())


class GgufFile:
    """A model as it will stand in a ``.gguf`` file; nothing is read or written before :meth:`write`."""

    def __init__(
        self,
        values: Mapping[str, Any],
        entries: Sequence[TensorEntry],
        kind: BlockType,
        *,
        name: str = "",
        tokenizer: Mapping[str, Any] | None = None,
        where: str = "the model",
    ) -> None:
        """
        Args:
            values: the model's config.json.
            entries: its tensors by their Hugging Face names.
            kind: how the matrices are stored, as far as their rows allow.
            tokenizer: the metadata ``tokenizer.*``; without it the file says that it has no vocabulary.

        Raises:
            ArrieroError: llama.cpp has no such model, or a tensor has no place in it.
        """
        self._where = where
        arch = architecture_of(values, where)
        values = _complete(arch, values, where)
        rope, factors = _rope(arch, values, where)
        self.metadata: dict[str, Any] = {
            "general.architecture": arch.name,
            "general.type": "model",
            **({"general.name": name} if name else {}),
            **{f"{arch.name}.{theirs}": values[key] for key, theirs in arch.keys.items()},
            f"{arch.name}.vocab_size": values["vocab_size"],
            **rope,
            "general.file_type": kind.file_type,
            "general.quantization_version": QUANTIZATION_VERSION,
            **(tokenizer or {"tokenizer.ggml.model": "no_vocab"}),
        }
        self._check_vocabulary(values["vocab_size"])
        self.tensors = _plan(arch, values, entries, kind, where)
        if factors is not None:
            self.tensors.insert(1, _factors(factors))

    @property
    def weight_bytes(self) -> int:
        """Exact bytes of the tensors with the padding between them: the file without its header."""
        return sum(_padded(tensor.bytes) for tensor in self.tensors)

    @property
    def file_bytes(self) -> int:
        """Exact bytes of the whole file."""
        return len(self._header()) + self.weight_bytes

    def write(self, path: Path, advance: Callable[[int], None] = lambda written: None) -> None:
        """Write the file, a few megabytes in memory beside the tensor that is read.

        Args:
            advance: told the bytes of every tensor that is done.

        Raises:
            ArrieroError: a value that the type cannot hold (not finite, or too large).
        """
        with path.open("wb") as file:
            file.write(self._header())
            for tensor in self.tensors:
                stored = tensor.view(tensor.read().detach())
                for _, part in pieces(stored, tensor.kind.values):
                    try:
                        file.write(encode(part, tensor.kind).data)
                    except OverflowError as error:
                        raise ArrieroError(
                            f"{self._where}: tensor {tensor.source} cannot be stored as {tensor.kind.name}: {error}"
                        ) from None
                file.write(bytes(_padded(tensor.bytes) - tensor.bytes))
                advance(tensor.bytes)

    def _header(self) -> bytes:
        parts = [MAGIC, struct.pack("<IQQ", VERSION, len(self.tensors), len(self.metadata))]
        parts += [_string(key) + _value(value) for key, value in self.metadata.items()]
        offset = 0
        for tensor in self.tensors:
            sizes = tensor.shape[::-1]
            parts.append(_string(tensor.name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
            parts.append(struct.pack("<IQ", tensor.kind.id, offset))
            offset += _padded(tensor.bytes)
        header = b"".join(parts)
        return header + bytes(_padded(len(header)) - len(header))

    def _check_vocabulary(self, rows: int) -> None:
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if tokens is not None and len(tokens) != rows:
            raise ArrieroError(
                f"{self._where} has {rows} rows of embeddings, its tokenizer {len(tokens)} tokens"
            )


def _complete(arch: Architecture, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """config.json with what it leaves to transformers' defaults.

    Raises:
        ArrieroError: a variant that this architecture of llama.cpp does not have.
    """
    found = {**arch.defaults, **{key: value for key, value in values.items() if value is not None}}
    for key, needed in arch.fixed.items():
        if found.get(key, needed) != needed:
            raise ArrieroError(
                f"{where}: {key} is {found[key]!r}; llama.cpp's {arch.name} has only {needed!r}"
            )
    if arch.rotary:
        found.setdefault("num_key_value_heads", found.get("num_attention_heads"))
        found.setdefault("head_dim", found["hidden_size"] // found["num_attention_heads"])
    elif "n_embd" in found:
        found.setdefault("n_inner", 4 * found["n_embd"])
    missing = [key for key in (*arch.keys, "vocab_size") if key not in found]
    if missing:
        raise ArrieroError(f"{where}: config.json has no {missing[0]}")
    window = found.get("sliding_window")
    if (
        window is not None
        and found.get("use_sliding_window", True)
        and window < found["max_position_embeddings"]
    ):
        raise ArrieroError(
            f"{where}: llama.cpp's {arch.name} has no sliding window; a context of at most {window} would need none"
        )
    return found


def _rope(
    arch: Architecture, values: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], list[float] | None]:
    if not arch.rotary:
        return {}, None
    rope, factors = write_rope(values, arch.name, values["head_dim"], where)
    if values["head_dim"] * values["num_attention_heads"] != values["hidden_size"]:
        width = values["head_dim"]
        rope |= {f"{arch.name}.attention.key_length": width, f"{arch.name}.attention.value_length": width}
    return rope, factors


def _plan(
    arch: Architecture, values: Mapping[str, Any], entries: Sequence[TensorEntry], kind: BlockType, where: str
) -> list[PlannedTensor]:
    """The tensors in llama.cpp's order."""
    left = {entry.name: entry for entry in entries}
    planned = []
    for name, theirs, module in arch.tensor_names(values[arch.layers_key]):
        entry = left.pop(theirs, None)
        if entry is None:
            continue

        def view(tensor: Tensor, module: str = module) -> Tensor:
            return arch.stored_view(module, tensor, values)

        turned = module in arch.transposed and len(entry.shape) == 2
        shape = entry.shape[::-1] if turned else entry.shape
        chosen = _storage(arch, module, shape, kind)
        planned.append(PlannedTensor(name, theirs, tuple(shape), chosen, entry.read, view))
    if left:
        raise ArrieroError(f"{where}: tensor {min(left)} has no place in llama.cpp's {arch.name}")
    return planned


def _storage(arch: Architecture, module: str, shape: Sequence[int], kind: BlockType) -> BlockType:
    if len(shape) == 1 or module in arch.kept_float32:
        return BY_NAME["F32"]
    if module in _EMBEDDINGS and kind.values > 1:
        kind = BY_NAME["Q8_0"]
    return kind if shape[-1] % kind.values == 0 else BY_NAME["F16"]


def _factors(values: list[float]) -> PlannedTensor:
    tensor = torch.tensor(values, dtype=torch.float32)
    return PlannedTensor(
        FREQUENCIES, FREQUENCIES, (len(values),), BY_NAME["F32"], lambda: tensor, lambda t: t
    )


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """Type and value: integers as uint32, floats as float32; in lists integers as int32."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if all(isinstance(item, str) for item in value):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    floats = any(isinstance(item, float) for item in value)
    kind, code = (6, "f") if floats else (5, "i")
    return struct.pack(f"<IIQ{len(value)}{code}", 9, kind, len(value), *value)
