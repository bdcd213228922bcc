"""The weights of a run whose model is cut: the parts that this process trains, and the whole again.

The model that the stage made stays what it is, with its modules and names, but its parameters hold only this process'
part; they share their memory with the cut copy that computes. Optimizer, running averages and checkpoints see plain
tensors, and need not know of any cut.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Placement

from arriero.training.parallel.cut import DTensorCut
from arriero.training.parallel.grid import Grid


def same_parameters(model: nn.Module) -> nn.Module:
    """A copy of the modules with the same parameters, which can be cut without harm to ``model``."""
    same = {id(p): p for p in model.parameters()}
    # a deep copy of a fake buffer has one storage by itself and another by its views (torch 2.13), so they would count twice
    return copy.deepcopy(model, {**same, **{id(b): b.clone() for b in model.buffers()}})


class Weights:
    """Ties the parameters of ``model`` to those of ``cut``.

    Args:
        model: the stage's; holds this process' parts from now on.
        cut: made by :func:`same_parameters` and then cut.
    """

    def __init__(self, model: nn.Module, cut: nn.Module, grid: Grid) -> None:
        self._grid = grid
        self._parts = dict(model.named_parameters())
        self._cut = dict(cut.named_parameters())
        self._shapes = {name: p.shape for name, p in self._parts.items()}
        self._trained = {name for name, p in self._parts.items() if p.requires_grad}
        for name, part in self._parts.items():
            source = self._cut.get(name)
            if source is None:  # of another stage of the pipeline
                part.requires_grad_(False)
                part.data = part.data.new_empty(0)
            elif source is not part:
                part.data = _local(source)

    def items(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trained parts of this process by name."""
        return ((name, p) for name, p in self._parts.items() if name in self._cut and p.requires_grad)

    def take_gradients(self) -> None:
        """Hand the gradients of the cut model to the parts."""
        for name, part in self.items():
            source = self._cut[name]
            if source is not part:
                part.grad = None if source.grad is None else _local_gradient(source)
                source.grad = None

    def holders(self, name: str) -> int:
        """How many processes of this stage hold the same elements of a parameter."""
        source, layout = self._cut[name], self._grid.layout
        everyone = layout.size // layout.pipeline
        if not isinstance(source, DTensor):
            return everyone
        sizes = zip(source.placements, source.device_mesh.shape, strict=True)
        parts = 1
        for placement, size in sizes:
            parts *= size if _cuts(placement) else 1
        return everyone // parts

    def cut(self, name: str) -> DTensorCut | None:
        """How the part of a parameter lies in the whole; None where it is not cut."""
        source = self._cut.get(name)
        parts = isinstance(source, DTensor) and any(map(_cuts, source.placements))
        return DTensorCut(source) if parts else None

    def spread(self, name: str, part: Tensor) -> Tensor:
        """``part`` as a DTensor that shares its memory, where it is cut as the parameter ``name`` is."""
        source = self._cut[name]
        if not isinstance(source, DTensor) or part.shape != _local(source).shape:
            return part
        return DTensor.from_local(
            part, source.device_mesh, source.placements, run_check=False,
            shape=source.shape, stride=source.stride(),
        )  # fmt: skip

    @torch.no_grad()
    def gather(self) -> None:
        """Make the model whole again in the first process; all call it together."""
        first = dist.get_rank() == 0
        for name, part in self._parts.items():
            whole = self.everywhere(name, lambda n=name: _whole(self._cut[n]))  # type: ignore[misc]
            part.data = whole if first else part.data.new_empty(0)
            part.grad = None
            part.requires_grad_(name in self._trained)

    def everywhere(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` gives in the stage that has parameter ``name``, in all stages."""
        mine = make() if name in self._cut else None
        if self._grid.layout.pipeline == 1:
            assert mine is not None
            return mine
        return self._from_owner(name, mine)

    def _from_owner(self, name: str, mine: Tensor | None) -> Tensor:
        group, reference = self._grid.pipeline_group, next(iter(self._cut.values()))
        claims = torch.tensor([self._grid.place.pipeline if mine is not None else group.size()])
        dist.all_reduce(claims, dist.ReduceOp.MIN, group=group)
        found = mine if mine is not None else torch.empty(self._shapes[name], dtype=reference.dtype)
        found = found.to(reference.device).contiguous()
        dist.broadcast(found, group=group, group_src=int(claims))
        return found


def _whole(tensor: Tensor) -> Tensor:
    found = tensor.detach()
    return found.full_tensor() if isinstance(found, DTensor) else found


def _local(tensor: Tensor) -> Tensor:
    found = tensor.detach()
    return found.to_local() if isinstance(found, DTensor) else found


def _local_gradient(p: Tensor) -> Tensor:
    gradient = p.grad
    assert gradient is not None
    if isinstance(gradient, DTensor) and isinstance(p, DTensor) and gradient.placements != p.placements:
        gradient = gradient.redistribute(placements=p.placements)
    return _local(gradient)


def _cuts(placement: Placement) -> bool:
    return not placement.is_replicate()
