"""Causal language modelling over a stream: truncated backpropagation through time.

The token stream is cut into as many equal streams as a batch has rows. A step reads the next window of each, goes on
from the state that the window before left (its value; gradients stop there), and hands its own state on
(Mikolov et al. 2010; Zaremba et al., arXiv 1409.2329). The samples therefore come in their own order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch

from arriero.errors import ArrieroError
from arriero.training.objectives import head
from arriero.training.objectives.base import Batch, Shape
from arriero.training.objectives.causal import CausalObjective, Windows


class Carrier:
    """The state of every stream between two windows; nothing before the first."""

    def __init__(self, streams: int) -> None:
        self.streams = streams
        self.state: tuple[torch.Tensor, ...] | None = None

    def take(self, model: Any, rows: torch.Tensor, fresh: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """State of these streams (int64 [B]), as before any token where ``fresh`` (bool [B])."""
        if self.state is None:
            self.state = model.initial_state(self.streams)
        state: tuple[torch.Tensor, ...] = model.reset(tuple(part[rows] for part in self.state), fresh)
        return state

    def put(self, rows: torch.Tensor, state: tuple[torch.Tensor, ...]) -> None:
        """Keep the value of the state of these streams."""
        assert self.state is not None
        kept = []
        for whole, part in zip(self.state, state, strict=True):
            kept.append(whole.index_copy(0, rows, part.detach().to(whole.dtype)))
        self.state = tuple(kept)


@dataclass(frozen=True)
class StreamBatch(Batch):
    """The next window of some streams.

    Attributes:
        streams: int64 [B], their numbers.
        fresh: bool [B]: nothing comes before this window.
        ends: bool [B]: the token after the window begins a document, so nothing is handed on.
        carrier: where the state is kept.
    """

    streams: torch.Tensor
    fresh: torch.Tensor
    ends: torch.Tensor
    carrier: Carrier


class StreamObjective(CausalObjective):
    """Predict every token from all before it in its document (without ``document_mask``: in its stream).

    Sample i is window i // streams of stream i % streams. Windows that do not fill all streams are left out.

    Args:
        windows: consecutive windows, as for :class:`CausalObjective`.
        streams: rows of a batch; at most as many as there are windows.
        limit: most samples, 0 for all: then every stream is cut short.

    Raises:
        ArrieroError: fewer windows than streams.
    """

    ordered: ClassVar[bool] = True

    def __init__(
        self, windows: Windows, context_length: int, document_mask: bool, streams: int, limit: int = 0
    ) -> None:
        super().__init__(windows, context_length, document_mask)
        self._spacing = len(windows) // streams
        if len(windows) and not self._spacing:
            raise ArrieroError(
                f"the text fills {len(windows):,} windows of {context_length} tokens, too few for {streams} streams "
                "read side by side; lower batch_size or context_length, give more text, or set stream to false"
            )
        self._streams = streams
        self._steps = min(self._spacing, math.ceil(limit / streams)) if limit else self._spacing
        self._carrier = Carrier(streams)

    def __len__(self) -> int:
        return self._streams * self._steps

    def parts(self, indices: Sequence[int], size: int) -> list[list[int]]:
        """Windows of one step together, in the order of the steps."""
        steps = [list(group) for _, group in groupby(indices, key=lambda index: index // self._streams)]
        return [step[start : start + size] for step in steps for start in range(0, len(step), size)]

    def batch(self, indices: Sequence[int]) -> StreamBatch:
        """Windows of different streams as rows, each token scored against the one that follows."""
        steps, streams = np.divmod(np.asarray(indices, dtype=np.int64), self._streams)
        ids, segments = self._windows.batch((streams * self._spacing + steps).tolist())
        plain = self._rows(ids, segments)
        ends = segments[:, -1] != segments[:, -2] if self._document_mask else np.zeros(len(ids), dtype=bool)
        return StreamBatch(
            **vars(plain), streams=torch.from_numpy(streams), fresh=torch.from_numpy(steps == 0),
            ends=torch.from_numpy(ends), carrier=self._carrier,
        )  # fmt: skip

    def synthetic(self, shape: Shape) -> StreamBatch:
        """A batch of that shape with streams of its own."""
        none = torch.zeros(shape.rows, dtype=torch.bool)
        return StreamBatch(
            **vars(super().synthetic(shape)), streams=torch.arange(shape.rows), fresh=none, ends=none,
            carrier=Carrier(shape.rows),
        )  # fmt: skip

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the negative log-probabilities in nats; the streams' state moves on."""
        assert isinstance(batch, StreamBatch)
        before = batch.carrier.take(model, batch.streams, batch.fresh)
        hidden, after = model.hidden_with_state(batch.ids, before, segments=batch.segments)
        batch.carrier.put(batch.streams, model.reset(after, batch.ends))
        return head.loss_sum(model, head.chosen(hidden, batch.positions), batch.targets), {}

    def carried(self) -> dict[str, torch.Tensor]:
        return {str(number): part for number, part in enumerate(self._carrier.state or ())}

    def carry(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._carrier.state = tuple(tensors[str(number)] for number in range(len(tensors))) or None
