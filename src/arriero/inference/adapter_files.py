"""Low-rank adapters from PEFT's files, put where they belong in a decoder; every tensor is accounted for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arriero.errors import ArrieroError, did_you_mean
from arriero.inference.adapter_config import ADAPTER_CONFIG, LoraConfig, read_lora_config
from arriero.models.decoder import Decoder
from arriero.models.families import get_family
from arriero.models.family import Fused
from arriero.models.hf_names import hf_tensor, stored_tensors
from arriero.models.layers.linear import Linear
from arriero.models.layers.quantized import QuantizedLinear
from arriero.models.tensor_reader import TensorReader

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FOLDER = "adapter"
"""Where the stages that tune with adapters leave them, inside their artifact."""

_NAME = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_BLOCK = re.compile(r"blocks\.\d+\.")
_SIZE = torch.float32.itemsize


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to one linear layer: ``y += (x a^T) b^T``, both float32.

    Attributes:
        a: [rank, in]. b: [out, rank], the adapter's scale in it already.
    """

    a: Tensor
    b: Tensor


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter as it lies in memory.

    Attributes:
        layers: place of a linear layer in the decoder -> what is added to it.
        fingerprint: hex SHA-256 of everything that its results follow from: equal adapters have equal ones.
    """

    name: str
    folder: Path
    layers: Mapping[str, LowRank]
    rank: int
    bytes: int
    fingerprint: str


@dataclass(frozen=True)
class _Target:
    """A matrix of the family's files that an adapter may be on, and our layers in it: one, or queries, keys, values.

    Attributes:
        rows: for each of ``layers`` the rows of the file's matrix that are its own; None: all of them.
    """

    layers: tuple[str, ...]
    n_in: int
    n_out: int
    rows: tuple[Tensor, ...] | None = None


def adapter_folder(folder: Path) -> Path:
    """The folder that holds the adapter's files: ``folder``, or the one that a tuning artifact keeps it in.

    Raises:
        ArrieroError: there is none, or its weights are a pickle.
    """
    for place in (folder, folder / ADAPTER_FOLDER):
        if (place / ADAPTER_WEIGHTS).is_file():
            return place
        if (pickle := place / "adapter_model.bin").is_file():
            raise ArrieroError(
                f"{pickle} is a pickle, which Arriero never reads: save it as {ADAPTER_WEIGHTS} (PEFT does by default)"
            )
    raise ArrieroError(f"{folder} holds no adapter: it has no {ADAPTER_WEIGHTS}")


def read_adapter(name: str, folder: Path, model: Decoder, most_bytes: int) -> Adapter:
    """Load an adapter for ``model`` from ``adapter_config.json`` and ``adapter_model.safetensors``.

    Args:
        folder: what PEFT wrote, or an artifact of a stage that tuned with adapters.
        most_bytes: an adapter that takes more is refused before any of its tensors is read.

    Raises:
        ArrieroError: in one line: an unreadable file, a kind of adapter that is not served, or a tensor that does not fit
            the model.
    """
    folder = adapter_folder(folder)
    config = read_lora_config(folder / ADAPTER_CONFIG)
    path = folder / ADAPTER_WEIGHTS
    targets = _targets(model)
    with TensorReader.of_file(path) as reader:
        pairs = _pairs(reader, path, get_family(model.config.family).prefix, targets)
        for module, names in pairs.items():
            _check_shapes(reader, path, names, module, targets[module], config)
        size = _SIZE * sum(reader.shape(n)[0] * reader.shape(n)[1] for names in pairs.values() for n in names)
        if size > most_bytes:
            raise ArrieroError(
                f"adapter '{name}' takes {size:,} bytes, only {most_bytes:,} of the limit are left"
            )
        layers: dict[str, LowRank] = {}
        rank = 0
        for module, (first, second) in sorted(pairs.items()):
            a, b = _values(reader, path, first, model), _values(reader, path, second, model)
            rank = max(rank, len(a))
            layers |= _placed(targets[module], a, b * config.scale_of(module))
    return Adapter(name, folder, layers, rank, size, _fingerprint(layers))


def _targets(model: Decoder) -> dict[str, _Target]:
    """Matrices of the family's files that lie inside the blocks, by their module's name there."""
    family, config = get_family(model.config.family), model.config
    ours = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, (Linear, QuantizedLinear)) and _BLOCK.match(path)
    }
    shapes = {
        f"{path}.weight": torch.empty(module.out_features, 0, device="meta") for path, module in ours.items()
    }
    found: dict[str, _Target] = {}
    for stored in stored_tensors(family, config, shapes):
        layers = tuple(name.removesuffix(".weight") for name in stored.ours)
        n_out = sum(ours[layer].out_features for layer in layers)
        rows = None
        if isinstance(hf_tensor(family, config, stored.ours[0]), Fused):
            numbers = torch.arange(n_out).unsqueeze(1)
            turned = layers[0].rpartition(".")[2] in family.transposed
            rows = tuple(part.flatten() for part in stored.split(numbers.t() if turned else numbers))
        target = _Target(layers, ours[layers[0]].in_features, n_out, rows)
        found[stored.name.removesuffix(".weight")] = target
    return found


def _pairs(
    reader: TensorReader, path: Path, prefix: str, targets: Mapping[str, _Target]
) -> dict[str, tuple[str, str]]:
    """Adapted module -> names of its two tensors."""
    sides: dict[str, dict[str, str]] = {}
    for name in sorted(reader.names()):
        match = _NAME.fullmatch(name)
        if match is None:
            raise ArrieroError(f"{path}: tensor {name} is no part of a plain LoRA adapter{_what(name)}")
        module = match["module"]
        if module not in targets and f"{prefix}.{module}" in targets:
            module = f"{prefix}.{module}"  # made for the body alone
        if module not in targets:
            raise ArrieroError(
                f"{path}: tensor {name} is for '{match['module']}', which is no linear layer in the blocks of this model"
                f"{did_you_mean(module, targets)}"
            )
        sides.setdefault(module, {})[match["side"]] = name
    for found in sides.values():
        if len(found) < 2:
            (side, name), other = next(iter(found.items())), "A" if "B" in found else "B"
            raise ArrieroError(
                f"{path}: tensor {name} has no partner lora_{other}: half of lora_{side} is missing"
            )
    if not sides:
        raise ArrieroError(f"{path} holds no tensor")
    return {module: (found["A"], found["B"]) for module, found in sides.items()}


def _what(name: str) -> str:
    if "lora_magnitude_vector" in name:
        return " (DoRA is not served: merge it into the model)"
    if "lora_embedding" in name:
        return " (adapters of the embedding are not served: merge it into the model)"
    return ""


def _check_shapes(
    reader: TensorReader,
    path: Path,
    names: tuple[str, str],
    module: str,
    target: _Target,
    config: LoraConfig,
) -> None:
    rank = config.rank_of(module)
    for name, wanted in zip(names, ((rank, target.n_in), (target.n_out, rank)), strict=True):
        shape = reader.shape(name)
        if shape != wanted:
            raise ArrieroError(
                f"{path}: tensor {name} has shape {list(shape)}, this model and rank {rank} ask for {list(wanted)}: "
                "the adapter was made for another model or rank"
            )
        if not reader.dtype(name).is_floating_point:
            raise ArrieroError(f"{path}: tensor {name} is stored as {reader.dtype(name)}, not as floats")


def _values(reader: TensorReader, path: Path, name: str, model: Decoder) -> Tensor:
    values = reader.read(name).float()
    if not bool(values.isfinite().all()):
        raise ArrieroError(f"{path}: tensor {name} holds values that are no finite numbers")
    return values.to(model.embedding.weight.device)


def _placed(target: _Target, a: Tensor, b: Tensor) -> dict[str, LowRank]:
    if target.rows is None:
        return {target.layers[0]: LowRank(a, b)}
    parts = zip(target.layers, target.rows, strict=True)
    return {layer: LowRank(a, b[rows.to(b.device)].contiguous()) for layer, rows in parts}


def _fingerprint(layers: Mapping[str, LowRank]) -> str:
    digest = hashlib.sha256()
    for place, layer in sorted(layers.items()):
        digest.update(f"{place} {tuple(layer.a.shape)} {tuple(layer.b.shape)}\n".encode())
        for matrix in (layer.a, layer.b):
            digest.update(matrix.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
