"""Tensors of a network as they lie in a Hugging Face folder: names, and how fused or transposed ones are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.models.family import Family, Fused

_QKV = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, and the tensors of ours that lie in it.

    Attributes:
        name: theirs.
        ours: names in the network's state: one, or queries, keys and values.
        shape: in the file.
        split: the file's tensor -> ours, as views of it.
        join: ours -> the file's tensor.
    """

    name: str
    ours: tuple[str, ...]
    shape: tuple[int, ...]
    split: Callable[[Tensor], list[Tensor]]
    join: Callable[[list[Tensor]], Tensor]

    @property
    def direct(self) -> bool:
        """The file holds our tensor as it is."""
        return self.split is _alone


def stored_tensors(family: Family, config: ModelConfig, state: dict[str, Tensor]) -> list[StoredTensor]:
    """What a folder of this model holds. ``state`` is the network's state_dict; only names and shapes are looked at.

    Raises:
        ArrieroError: a tensor that has no place in such a folder (an adapter that was not merged).
    """
    found: list[StoredTensor] = []
    done: set[str] = set()
    for name in state:
        if name in done:
            continue
        stored = _stored(family, config, state, name)
        done.update(stored.ours)
        found.append(stored)
    return found


def hf_tensor(family: Family, config: ModelConfig, ours: str) -> str | Fused:
    """Their name of one of our tensors; a :class:`Fused` for a part of a fused matrix."""
    task = family.task_of(config)
    heads = family.heads_of(config)
    module, _, leaf = ours.rpartition(".")
    pattern, numbers = _pattern(module)
    whole, _ = _pattern(ours)
    prefix = f"{family.prefix}." if family.prefix and task != "none" else ""
    for table, before in ((heads, ""), (family.parameters, prefix)):
        if whole in table:
            return before + table[whole].format(*numbers)
    for modules, before in ((heads, ""), (family.modules_of(config), prefix), (family.modules, prefix)):
        if pattern in modules:
            theirs = modules[pattern]
            if isinstance(theirs, Fused):
                return Fused(before + theirs.module.format(*numbers) + "." + leaf, theirs.layout)
            return f"{before}{theirs.format(*numbers)}.{leaf}"
    raise ArrieroError(
        f"tensor {ours} has no place in a Hugging Face folder of the family {family.name}; "
        "merge the adapters before saving"
    )


def hf_module(family: Family, config: ModelConfig, ours: str) -> str:
    """Their name of one of our modules.

    Raises:
        ArrieroError: the family keeps it fused with others.
    """
    name = hf_tensor(family, config, ours + ".weight")
    if isinstance(name, Fused):
        raise ArrieroError(f"{ours} is a part of {name.module} in files of the family {family.name}")
    return name.removesuffix(".weight")


def without_prefix(names: Iterable[str], prefix: str) -> bool:
    """True when a file's tensors belong to a body saved alone (none of them starts with the prefix)."""
    return bool(prefix) and not any(name.startswith(prefix + ".") for name in names)


def _pattern(name: str) -> tuple[str, list[str]]:
    """``blocks.3.attention`` -> ``blocks.{}.attention`` and ["3"]."""
    pieces = name.split(".")
    numbers = [piece for piece in pieces if piece.isdecimal()]
    return ".".join("{}" if piece.isdecimal() else piece for piece in pieces), numbers


def _stored(family: Family, config: ModelConfig, state: dict[str, Tensor], name: str) -> StoredTensor:
    theirs = hf_tensor(family, config, name)
    module, _, leaf = name.rpartition(".")
    last = module.rpartition(".")[2]
    transposed = leaf == "weight" and last in family.transposed
    if isinstance(theirs, Fused):
        return _fused(theirs, config, state, module, leaf, transposed)
    shape = tuple(state[name].shape)
    if transposed:
        return StoredTensor(theirs, (name,), shape[::-1], _turned, lambda parts: parts[0].t())
    return StoredTensor(theirs, (name,), shape, _alone, lambda parts: parts[0])


def _alone(tensor: Tensor) -> list[Tensor]:
    return [tensor]


def _turned(tensor: Tensor) -> list[Tensor]:
    return [tensor.t()]


def _fused(
    theirs: Fused, config: Any, state: dict[str, Tensor], module: str, leaf: str, transposed: bool
) -> StoredTensor:
    parent = module.rpartition(".")[0]
    names = tuple(f"{parent}.{part}.{leaf}" for part in _QKV)
    if leaf not in ("weight", "bias"):
        raise ArrieroError(
            f"{parent}: quantised queries, keys and values cannot be stored as this family's files have them, "
            "in one matrix; export the model as GGUF, or quantise a model of another family"
        )
    rows = [state[name].shape[0] for name in names]
    shape = (sum(rows), *state[names[0]].shape[1:])
    order = _order(theirs.layout, config, rows)

    def split(tensor: Tensor) -> list[Tensor]:
        tensor = tensor.t() if transposed else tensor
        return [tensor[index] for index in order]

    def join(parts: list[Tensor]) -> Tensor:
        whole = parts[0].new_empty(shape)
        for index, part in zip(order, parts, strict=True):
            whole[index] = part
        return whole.t() if transposed else whole

    return StoredTensor(theirs.module, names, shape[::-1] if transposed else shape, split, join)


def _order(layout: str, config: Any, rows: list[int]) -> list[slice | Tensor]:
    """Which rows of the fused matrix are the queries, the keys and the values."""
    if layout == "concatenated":
        q, k, v = rows
        return [slice(0, q), slice(q, q + k), slice(q + k, q + k + v)]
    group, width = config.n_heads // config.n_kv_heads, config.head_dim
    heads = torch.arange(sum(rows), device="cpu").view(config.n_kv_heads, group + 2, width)
    return [heads[:, :group].flatten(), heads[:, group].flatten(), heads[:, group + 1].flatten()]
