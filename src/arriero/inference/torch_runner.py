"""A step by the model's own modules, in plain torch: every family, every device, every element type."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arriero.inference.kv_pool import KVPool
from arriero.inference.pool_attention import PoolAttention
from arriero.inference.rows import Rows

if TYPE_CHECKING:
    from arriero.inference.adapters import AdapterStore
    from arriero.models.decoder import Decoder


class TorchRunner:
    """Runs rows through a decoder.

    A row's bits may depend on the number of rows beside it: torch's float products choose their order of summation by
    the shape. The differences are those of rounding.
    """

    name = "torch"
    batch_invariant = False

    def __init__(self, model: Decoder, pool: KVPool, adapters: AdapterStore | None = None) -> None:
        self.model, self.pool, self.adapters = model, pool, adapters
        scaling = model.config.rope_scaling
        self._by_length = (
            scaling is not None and scaling.kind == "dynamic"
        )  # angles follow the longest sequence

    @torch.inference_mode()
    def run(self, rows: Rows) -> Tensor:
        """See :class:`~arriero.inference.rows.Runner`."""
        if self._by_length and len(rows.spans) > 1:
            return torch.cat([self._run(part) for part in _apart(rows)])
        return self._run(rows)

    def _run(self, rows: Rows) -> Tensor:
        device = self.pool.shape.device
        ids = torch.tensor([rows.ids], dtype=torch.int64, device=device)
        positions = torch.tensor([rows.positions], dtype=torch.int64, device=device)
        with self._adapted(rows):
            hidden = self.model.hidden(ids, positions=positions, cache=PoolAttention(self.pool, rows))[0]
        if len(rows.wanted) < len(rows):
            hidden = hidden[torch.tensor(rows.wanted, dtype=torch.int64, device=device)]
        return self.model.logits(hidden).float()

    def refresh(self) -> None:
        """The model's weights have changed: nothing is kept of them."""

    def _adapted(self, rows: Rows) -> AbstractContextManager[None]:
        if self.adapters is None:
            return nullcontext()
        return self.adapters.active([span.adapter for span in rows.spans for _ in range(span.count)])


def _apart(rows: Rows) -> list[Rows]:
    """The same rows, one sequence at a time."""
    parts = []
    for span in rows.spans:
        own = range(span.first, span.first + span.count)
        wanted = [row - span.first for row in rows.wanted if row in own]
        part = Rows()
        part.add([rows.ids[row] for row in own], span.stored, span.blocks, wanted, span.adapter)
        parts.append(part)
    return parts
