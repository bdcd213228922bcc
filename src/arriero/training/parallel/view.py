"""What an objective sees of a decoder that is cut by tensor or context: one like any other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from arriero.models.decoder import Decoder
from arriero.training.parallel.context import GatheredAttention
from arriero.training.parallel.grid import Grid
from arriero.training.parallel.sequence import pad_right, padded_length
from arriero.training.parallel.tensor import vocabulary_head


class View:
    """Stands in for the model in ``Objective.loss_sum``; what it does not know it asks the model for."""

    def __init__(self, model: Decoder, grid: Grid, has_head: bool = True) -> None:
        self._model = model
        self._grid = grid
        self.config = model.config
        self.head_losses = vocabulary_head(model, grid) if grid.layout.tensor > 1 and has_head else None
        """Takes the place of the plain head in ``objectives.head``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def hidden(self, ids: Tensor, *, segments: Tensor | None = None) -> Tensor:
        """As ``Decoder.hidden``; with context parallelism of this process' tokens (``sequence.cut_batch``)."""
        if self._grid.layout.context > 1:
            return self._gathered(ids, segments)
        _, length = ids.shape
        whole = padded_length(length, self._grid.layout.length_step)
        if whole > length:
            ids = pad_right(ids, whole, 0)
            segments = None if segments is None else pad_right(segments, whole, -1)
        return self._model.hidden(ids, segments=segments)[:, :length]

    def _gathered(self, ids: Tensor, segments: Tensor | None) -> Tensor:
        rows, length = ids.shape
        attention = GatheredAttention(self._grid.context_group, length * self._grid.layout.context, segments)
        positions = attention.positions(rows).to(ids.device)
        result: Tensor = self._model.hidden(ids, positions=positions, cache=attention)
        return result
