"""Silent data corruption: a processor, a memory cell or a link that gives a wrong result and no error.

Every so often one micro-batch of a step is computed twice, and the bits of its loss and of all its gradients are
compared. A machine that is sound gives the same bits; where it does not, a third computation tells which one was
right, and the user is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from arriero.errors import ArrieroError
from arriero.training import randomness
from arriero.training.objectives.base import Batch, Objective
from arriero.training.precision import Precision
from arriero.training.step import accumulate

Sums = dict[str, torch.Tensor]
_INTEGER = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}


@dataclass(frozen=True)
class Work:
    """What computes a micro-batch's loss and gradient."""

    model: Any
    objective: Objective
    weight: int
    precision: Precision

    def run(self, batches: Sequence[Batch]) -> Sums:
        """Add the batches' gradients to the parameters' ``grad``; the sums of their figures."""
        return accumulate(self.model, self.objective, batches, self.weight, self.precision)


def bits(tensor: torch.Tensor) -> int:
    """Sum of the elements' bits as integers, modulo 2^64: no single flipped bit leaves it as it was."""
    values = getattr(
        tensor.detach(), "_local_tensor", tensor.detach()
    ).contiguous()  # of a DTensor: this rank's part
    return int(values.view(_INTEGER[values.element_size()]).sum(dtype=torch.int64))


def accumulate_checked(
    work: Work,
    batches: Sequence[Batch],
    chosen: int,
    say: Callable[[str], None],
    agree: Callable[[bool], bool] = lambda same: same,
) -> Sums:
    """:func:`accumulate`, with the micro-batch number ``chosen`` first and computed twice.

    Args:
        say: told of a difference, with the name of the parameter.
        agree: says whether all ranks found the same (they compute in step with each other).

    Raises:
        ArrieroError: three computations of the same micro-batch gave three results.
    """
    first, *rest = batches[chosen : chosen + 1], batches[:chosen], batches[chosen + 1 :]
    sums = _twice(work, first, say, agree)
    for batch in (batch for part in rest for batch in part):
        for name, value in work.run([batch]).items():
            sums[name] = sums[name] + value if name in sums else value
    return sums


def _twice(
    work: Work, batch: Sequence[Batch], say: Callable[[str], None], agree: Callable[[bool], bool]
) -> Sums:
    device = batch[0].ids.device
    tensors, others = randomness.capture(device)
    carried = {name: tensor.clone() for name, tensor in work.objective.carried().items()}
    parameters = {name: p for name, p in work.model.named_parameters() if p.requires_grad}
    seen: list[dict[str, int]] = []
    for attempt in range(3):
        if attempt:
            randomness.restore(tensors, others, device)
            work.objective.carry({name: tensor.clone() for name, tensor in carried.items()})
            for p in parameters.values():
                p.grad = None
        sums = work.run(batch)
        found = {name: bits(p.grad) for name, p in parameters.items() if p.grad is not None}
        found |= {f"sum of {name}": bits(value) for name, value in sums.items()}
        if agree(found in seen):
            if attempt > 1:
                say(
                    "silent data corruption: two computations of three agree, and training goes on with theirs"
                )
            return sums
        if seen:
            different = [name for name in found if any(found[name] != before.get(name) for before in seen)]
            where = f"{different[0]} and {len(different) - 1} more" if different else "another rank"
            say(f"silent data corruption: the same micro-batch, computed again, differs in {where}")
        seen.append(found)
    raise ArrieroError(
        "three computations of the same micro-batch gave three results, so this machine cannot be trusted: test its "
        "memory and processor (or set health.recompute_every to 0 if an operation in use is not deterministic)"
    )
