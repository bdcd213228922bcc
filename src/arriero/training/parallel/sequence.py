"""A sequence cut over several processes: which tokens are whose, and the batch of one of them.

A causal token sees what is before it, so the later tokens are more work. Each of n processes therefore takes two of 2 n
equal pieces, one from the front and one from the back (Llama 3, arXiv 2407.21783, section 3.3.2).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from arriero.training.objectives.base import SCORED_STEP, UNSCORED, Batch


def padded_length(length: int, step: int) -> int:
    return -(-length // step) * step


def pad_right(x: Tensor, length: int, value: int) -> Tensor:
    """x [B, T] -> [B, length]."""
    return F.pad(x, (0, length - x.shape[1]), value=value)


def own_places(length: int, part: int, of: int, device: torch.device | None = None) -> Tensor:
    """Places int64 [length / of] of process ``part`` in a sequence of ``length`` tokens, a multiple of 2 ``of``."""
    piece = length // (2 * of)
    first, last = part * piece, (2 * of - 1 - part) * piece
    index = torch.arange(piece, device=device)
    return torch.cat([first + index, last + index])


def cut_batch(batch: Batch, part: int, of: int, step: int) -> Batch:
    """What process ``part`` of ``of`` works on: its tokens of every row, and the targets that follow them.

    ``segments`` stay whole [B, T padded], because attention needs those of the keys. The tokens are counted by the
    first process alone.

    Args:
        step: the length is padded to a multiple of it, with tokens that nothing sees.
    """
    _, length = batch.ids.shape
    whole = padded_length(length, step)
    places = own_places(whole, part, of, batch.ids.device)
    targets = _target_grid(batch, whole)[:, places].contiguous()
    scored = int((targets != UNSCORED).sum())
    positions, targets = (
        (None, targets.reshape(-1)) if batch.positions is None else _listed(targets.reshape(-1))
    )
    segments = None if batch.segments is None else pad_right(batch.segments, whole, -1)
    return replace(
        batch, ids=pad_right(batch.ids, whole, 0)[:, places].contiguous(), positions=positions, targets=targets,
        scored=scored, segments=segments, tokens=batch.tokens if part == 0 else 0,
    )  # fmt: skip


def _target_grid(batch: Batch, whole: int) -> Tensor:
    """Target of every place [B, whole], UNSCORED where nothing is scored."""
    rows, length = batch.ids.shape
    if batch.positions is None:
        return pad_right(batch.targets.view(rows, length), whole, UNSCORED)
    grid = torch.full((rows, whole), UNSCORED, dtype=torch.int64, device=batch.ids.device)
    real = batch.targets != UNSCORED
    places = batch.positions[real]
    grid[places // length, places % length] = batch.targets[real]
    return grid


def _listed(targets: Tensor) -> tuple[Tensor, Tensor]:
    """(positions, targets) of the scored ones, filled up as ``base.scored_positions`` does, and never none."""
    positions = (targets != UNSCORED).nonzero().squeeze(1)
    missing = -len(positions) % SCORED_STEP if len(positions) else SCORED_STEP
    return F.pad(positions, (0, missing)), F.pad(targets[positions], (0, missing), value=UNSCORED)
