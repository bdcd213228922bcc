"""Steps by the native library: a whole forward pass in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.inference.kv_pool import KVPool
from arriero.inference.native_adapters import NativeAdapters
from arriero.inference.native_matrices import is_low_bit
from arriero.inference.native_program import ProgramMaker, why_not
from arriero.inference.rows import Rows, Span, check_rows
from arriero.inference.runners import HeadKind
from arriero.inference.torch_runner import TorchRunner
from arriero.native import library, program
from arriero.native.program import Pool

if TYPE_CHECKING:
    from arriero.inference.adapters import AdapterStore
    from arriero.models.decoder import Decoder

DENSE_ROWS = 16
"""Longest span that goes through dense weights here; oneDNN is faster with more rows."""

_KINDS = {torch.float32: program.FP32, torch.bfloat16: program.BF16, torch.int8: program.INT8}


def why_no_runner(model: Decoder, pool: KVPool) -> str | None:
    """Why there can be no native runner; None where there can."""
    if pool.shape.dtype not in _KINDS or pool.shape.device != "cpu":
        return f"keys and values in {pool.shape.dtype} on {pool.shape.device} have no native attention"
    return why_not(model)


class NativeRunner:
    """Runs rows through a decoder by the native library.

    With low-bit weights a row's bits are the same whatever rows are beside it, however a prompt is cut and however
    many threads there are. With dense weights that holds for spans of up to 16 rows; longer ones go through the model's
    own modules, on the same pool. Rows with adapters are rows like others.

    Products with low-bit weights round activations to int8, one scale for 32 of them.

    Args:
        head: ``int8``: the head's weights as int8 codes with one scale for 32 inputs, which makes the largest matrix
            of a small model four (float32) or two times smaller to read. benchmarks/decode.py measures what it costs.
        lean: low-bit codes are held once, in the form that is computed with; the model still gives them as it did.

    Raises:
        ArrieroError: the model or the pool is not for this runner; the message says why.
    """

    name = "native"

    def __init__(
        self,
        model: Decoder,
        pool: KVPool,
        adapters: AdapterStore | None = None,
        *,
        head: HeadKind = "as_is",
        lean: bool = False,
    ) -> None:
        reason = why_no_runner(model, pool)
        if reason is not None:
            raise ArrieroError(f"the native runner cannot take this model: {reason}")
        self.model, self.pool, self.head, self._lean = model, pool, head, lean
        self._torch, self._store = TorchRunner(model, pool, adapters), adapters
        self._pool = pool_description(pool)
        self.refresh()

    @property
    def batch_invariant(self) -> bool:
        """A row's bits never depend on the rows beside it."""
        return self._low_bit

    def refresh(self) -> None:
        """Read the model's weights again after they have changed."""
        reason = why_not(self.model)
        if reason is not None:
            raise ArrieroError(f"the native runner cannot take this model any more: {reason}")
        self._low_bit = is_low_bit(self.model)
        maker = ProgramMaker(self.model, self.head, self._lean)
        self._program = maker.make()
        self._adapters = NativeAdapters(self._program, maker.adapted, maker.widths, self._store)

    def run(self, rows: Rows) -> Tensor:
        """See :class:`~arriero.inference.rows.Runner`."""
        elsewhere = [s for s in rows.spans if self._goes_elsewhere(s)]
        if not elsewhere:
            return self._run(rows)
        logits = torch.empty(len(rows.wanted), self.model.config.vocab_size)
        here = [s for s in rows.spans if not self._goes_elsewhere(s)]
        for spans, run in ((elsewhere, self._torch.run), (here, self._run)):
            if spans:
                part, places = _part(rows, spans)
                logits[places] = run(part)
        return logits

    def _goes_elsewhere(self, span: Span) -> bool:
        if span.adapter is not None and not self._adapters.takes(span.adapter):
            return True
        return not self._low_bit and span.count > DENSE_ROWS

    def _run(self, rows: Rows) -> Tensor:
        check_rows(rows, self.model.config.vocab_size, self.model.config.context_length)
        library.set_threads(torch.get_num_threads())
        logits = torch.empty(len(rows.wanted), self.model.config.vocab_size)
        spans = [(s.first, s.count, s.stored, s.blocks) for s in rows.spans]
        adapters = self._adapters.numbers(rows)
        self._program.run(
            self._pool, rows.ids, rows.positions, spans, rows.wanted, logits.data_ptr(), adapters
        )
        return logits


def _part(rows: Rows, spans: list[Span]) -> tuple[Rows, list[int]]:
    """The rows of some spans alone, and which of the logits are theirs."""
    part, places = Rows(), []
    for span in spans:
        own = range(span.first, span.first + span.count)
        wanted = [(place, row - span.first) for place, row in enumerate(rows.wanted) if row in own]
        ids = [rows.ids[row] for row in own]
        added = part.add(ids, span.stored, span.blocks, [row for _, row in wanted], span.adapter)
        part.positions[added.first :] = [rows.positions[row] for row in own]
        places += [place for place, _ in wanted]
    return part, places


def pool_description(pool: KVPool) -> Pool:
    """Where a pool lies, as the native library is told."""
    scales = [None if s is None else s.data_ptr() for s in (pool.key_scales, pool.value_scales)]
    return Pool(
        _KINDS[pool.shape.dtype], pool.n_blocks, pool.shape.n_kv_heads, pool.shape.head_dim,
        pool.keys.data_ptr(), pool.values.data_ptr(), *scales,
    )  # fmt: skip
