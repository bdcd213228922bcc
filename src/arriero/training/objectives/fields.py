"""Fields on a grid: the weather six hours on from the weather now, or any field from another.

The loss is weighted by channel and by latitude, as Pangu-Weather's (Bi et al., arXiv 2211.02556, methods: the mean
absolute error with a weight for each variable): a grid of equal angles has ever smaller cells towards the poles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arriero.errors import ArrieroError
from arriero.training.objectives.base import Batch, Objective, Shape
from arriero.training.objectives.regression_loss import Loss, error_sum


@dataclass(frozen=True)
class FieldShape(Shape):
    """``rows`` fields of ``channels`` x height x width in, ``outputs`` x height x width out; ``length`` is height times
    width."""

    channels: int = 1
    outputs: int = 1
    height: int = 1
    width: int = 1


@dataclass(frozen=True)
class FieldBatch(Batch):
    """A batch without tokens: ``ids`` is int64 [B, 0]; ``tokens`` counts grid points.

    Attributes:
        inputs: fp32 [B, C, H, W].
        wanted: fp32 [B, D, H, W].
        weights: fp32 [B, D, H, W]: channel times latitude, 0 where the mask leaves a value out.
    """

    inputs: torch.Tensor
    wanted: torch.Tensor
    weights: torch.Tensor

    @property
    def device(self) -> torch.device:
        return self.inputs.device

    @property
    def shape(self) -> FieldShape:
        rows, channels, height, width = self.inputs.shape
        return FieldShape(
            rows, height * width, 0, channels=channels, outputs=self.wanted.shape[1], height=height, width=width
        )  # fmt: skip


@dataclass(frozen=True)
class FieldPairs:
    """Fields and what is to be told from each, in .npy files that are read piece by piece (memory-mapped).

    Attributes:
        inputs: [N, C, H, W], any kind of number. targets: [N, D, H, W].
        mask: [N, D, H, W] or [D, H, W] or None: 0 or False where a value does not count.
    """

    inputs: np.ndarray
    targets: np.ndarray
    mask: np.ndarray | None = None

    @classmethod
    def open(cls, inputs: Path, targets: Path, mask: Path | None = None) -> FieldPairs:
        """
        Raises:
            ArrieroError: a file cannot be read, or the shapes do not fit each other.
        """
        return cls(_open(inputs), _open(targets), None if mask is None else _open(mask))

    def __post_init__(self) -> None:
        shapes = self.inputs.shape, self.targets.shape
        if any(len(shape) != 4 for shape in shapes):
            raise ArrieroError(f"fields should be [N, C, H, W]; these are {shapes[0]} and {shapes[1]}")
        if shapes[0][0] != shapes[1][0] or shapes[0][2:] != shapes[1][2:]:
            raise ArrieroError(f"inputs {shapes[0]} and targets {shapes[1]} differ in number or grid")
        if self.mask is not None and self.mask.shape not in (shapes[1], shapes[1][1:]):
            raise ArrieroError(f"the mask is {self.mask.shape}; it should be {shapes[1]} or {shapes[1][1:]}")

    def __len__(self) -> int:
        return len(self.inputs)

    def mask_of(self, index: int) -> np.ndarray | None:
        """[D, H, W], or None where all values count."""
        if self.mask is None:
            return None
        return self.mask if self.mask.ndim == 3 else self.mask[index]


def _open(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ArrieroError(f"{path} does not exist") from None
    except (ValueError, OSError, EOFError):
        raise ArrieroError(f"{path} is no .npy file of numbers") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ArrieroError(f"{path} should be a .npy file of numbers")
    return array


@dataclass(frozen=True)
class FieldWeights:
    """How much a value counts: its channel's weight times its latitude's. Empty: 1 each."""

    channels: Sequence[float] = ()
    latitudes: Sequence[float] = field(default=())

    def table(self, outputs: int, height: int) -> np.ndarray:
        """float32 [D, H, 1].

        Raises:
            ArrieroError: not one weight for each channel or row, or one below 0.
        """
        parts = []
        for name, given, wanted in (
            ("channel", self.channels, outputs),
            ("latitude", self.latitudes, height),
        ):
            weights = np.asarray(given if len(given) else [1.0] * wanted, dtype=np.float32)
            if weights.shape != (wanted,) or not np.isfinite(weights).all() or (weights < 0).any():
                raise ArrieroError(f"{wanted} {name} weights of at least 0 are wanted, not {list(given)}")
            parts.append(weights)
        return np.asarray(parts[0][:, None, None] * parts[1][None, :, None])


def latitude_weights(height: int, poles: bool = True) -> list[float]:
    """Cosines of the rows' latitudes over their mean, from north to south: the share of the sphere that a row stands for.

    Args:
        poles: the first and the last row lie on the poles; else half a row's height from them.
    """
    steps = np.arange(height) / max(1, height - 1) if poles else (np.arange(height) + 0.5) / height
    cosines = np.cos(np.pi * (steps - 0.5)).clip(min=0)
    return [float(value) for value in cosines / cosines.mean()] if cosines.sum() else [1.0] * height


class FieldObjective(Objective):
    """Weighted mean loss over the values that count; for any model that maps [B, C, H, W] to [B, D, H, W].

    The loss sum is divided by the number of values that count, so the weights should have mean 1 to keep its scale.

    Args:
        pairs: the samples.
        weights: of channels and latitudes.
        loss: see regression_loss.error_sum. delta: where Huber's loss becomes linear.
    """

    def __init__(
        self,
        pairs: FieldPairs,
        weights: FieldWeights = FieldWeights(),
        *,
        loss: Loss = "absolute",
        delta: float = 1.0,
    ) -> None:
        self._pairs, self._loss, self._delta = pairs, loss, delta
        _, self._outputs, height, _ = pairs.targets.shape
        self._weights = weights.table(self._outputs, height)

    def __len__(self) -> int:
        return len(self._pairs)

    def tokens_per_sample(self) -> float:
        """Grid points."""
        return float(np.prod(self._pairs.inputs.shape[2:]))

    def weight(self, batch: Batch) -> int:
        """Values that count."""
        return batch.scored

    def batch(self, indices: Sequence[int]) -> FieldBatch:
        pairs = self._pairs
        inputs = np.stack([pairs.inputs[i] for i in indices]).astype(np.float32)
        wanted = np.stack([pairs.targets[i] for i in indices]).astype(np.float32)
        weights = np.broadcast_to(self._weights, wanted.shape)
        counts = np.ones(wanted.shape, dtype=bool)
        if pairs.mask is not None:
            masks = [pairs.mask_of(i) for i in indices]
            counts = np.stack([np.asarray(mask) != 0 for mask in masks])
        rows, _, height, width = inputs.shape
        return FieldBatch(
            **_no_tokens(rows), scored=int(counts.sum()), tokens=rows * height * width,
            inputs=torch.from_numpy(inputs), wanted=torch.from_numpy(wanted),
            weights=torch.from_numpy((weights * counts).astype(np.float32)),
        )  # fmt: skip

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the weighted losses; figure: the weighted sum of squares.

        Raises:
            ArrieroError: the model gives fields of another shape.
        """
        assert isinstance(batch, FieldBatch)
        found = model(batch.inputs)
        if found.shape != batch.wanted.shape:
            raise ArrieroError(
                f"the model gives fields of {tuple(found.shape)}, wanted are {tuple(batch.wanted.shape)}"
            )
        total = error_sum(found, batch.wanted, batch.weights, self._loss, self._delta)
        squares = error_sum(found.detach(), batch.wanted, batch.weights, "squared", self._delta)
        return total, {"squared_error": squares}

    def synthetic(self, shape: Shape) -> FieldBatch:
        """A batch of that shape. A shape that is not a FieldShape has this objective's channels and grid."""
        _, channels, height, width = self._pairs.inputs.shape
        outputs = self._outputs
        if isinstance(shape, FieldShape):
            channels, outputs, height, width = shape.channels, shape.outputs, shape.height, shape.width
        wanted = torch.zeros(shape.rows, outputs, height, width)
        return FieldBatch(
            **_no_tokens(shape.rows), scored=wanted.numel(), tokens=shape.rows * height * width,
            inputs=torch.zeros(shape.rows, channels, height, width), wanted=wanted, weights=torch.ones_like(wanted),
        )  # fmt: skip


def _no_tokens(rows: int) -> dict[str, Any]:
    """What a batch has for tokens where there are none."""
    return {
        "ids": torch.empty(rows, 0, dtype=torch.int64), "positions": None,
        "targets": torch.empty(0, dtype=torch.int64), "segments": None,
    }  # fmt: skip
