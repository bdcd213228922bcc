"""The role of each parameter, found from the module that holds it; decay and Muon go by role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import nn

from arriero.models.layers.embedding import Embedding

Role = Literal["matrix", "head", "embedding", "vector"]
DECAYED: tuple[Role, ...] = ("matrix", "head")
_OUTPUT = ("head", "direct")
"""Where the networks keep the layers whose result is the output."""


def parameter_roles(model: nn.Module) -> dict[str, Role]:
    """Role of every trained parameter, by its name in ``model.named_parameters()``; a shared one stands once.

    * ``matrix``: a hidden layer's weight: of linear, recurrent and convolution layers, and adapters.
    * ``head``: a weight that makes the output, a table that serves as embedding and head at once too.
    * ``embedding``: a table whose rows are only looked up: tokens, positions, segments, relative positions.
    * ``vector``: gains and biases, of whatever shape.
    """
    output, tied = _output_modules(model), _tied_tables(model)
    roles: dict[str, Role] = {}
    for name, module, parameter in _held(model):
        if parameter.requires_grad:
            roles[name] = _role(name, module, parameter, output, tied)
    return roles


def _role(name: str, module: nn.Module, p: nn.Parameter, output: set[nn.Module], tied: set[int]) -> Role:
    if p.dim() < 2 or name.rpartition(".")[2].endswith("bias"):  # one bias a head is a table, but no matrix
        return "vector"
    if id(p) in tied or module in output:
        return "head"
    if isinstance(module, (Embedding, nn.Embedding)):
        return "embedding"
    own = name.rpartition(".")[
        2
    ]  # what a product takes is a weight everywhere; a bare table of positions is not
    return "matrix" if "weight" in own or own.startswith("lora_") else "embedding"


def _held(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """(name, the module that holds it, parameter), each parameter once and in ``named_parameters()``' order."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{path}.{name}" if path else name, module, parameter


def _output_modules(model: nn.Module) -> set[nn.Module]:
    parts = (getattr(model, name, None) for name in _OUTPUT)
    return {module for part in parts if isinstance(part, nn.Module) for module in part.modules()}


def _tied_tables(model: nn.Module) -> set[int]:
    """Ids of the tables that are looked up and make the output too."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, (Embedding, nn.Embedding))}
    shared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)} & tables
    head = getattr(model, "head", None)
    through_the_table = head is None or getattr(head, "decoder", head) is None  # an encoder's masked head
    if getattr(getattr(model, "config", None), "tie_embeddings", False) and through_the_table:
        table = getattr(model, "decoder_embedding", None) or getattr(model, "embedding", None)
        table = getattr(table, "word", table)
        if isinstance(table, (Embedding, nn.Embedding)) and not _is_body(model):
            shared.add(id(table.weight))
    return shared


def _is_body(model: nn.Module) -> bool:
    """True for an encoder without a head: nothing is told from its table."""
    return getattr(getattr(model, "config", None), "task", "") == "none"


def role_groups(
    model: nn.Module, weight_decay: float, separate: tuple[Role, ...] = ()
) -> tuple[list[Mapping[str, object]], list[nn.Parameter]]:
    """(parameter groups with their ``weight_decay``, the two-dimensional parameters of the roles ``separate``).

    Decay applies to matrices and heads. Norms and biases are left alone, as everywhere; so are tables that are only
    looked up: decay would shrink a row at every step, its gradient comes only when its token does (OLMo 2, arXiv
    2501.00656, leaves its embeddings out for a steadier training). Every trained parameter is in exactly one place.
    """
    parameters = dict(model.named_parameters())
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    apart: list[nn.Parameter] = []
    for name, role in parameter_roles(model).items():
        p = parameters[name]
        if role in separate and p.dim() == 2:
            apart.append(p)
        else:
            (decayed if role in DECAYED else plain).append(p)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]], apart


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give every group the learning rate of the coming step, times the group's own ``lr_ratio`` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("lr_ratio", 1.0)
