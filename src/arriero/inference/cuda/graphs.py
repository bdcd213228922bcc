"""Steps in which every answer takes one token, recorded once as a CUDA graph and replayed.

A recorded step reads its tokens and their places from fixed memory and writes its logits into fixed memory. It is for a
number of rows (one of ``SIZES``) and a number of blocks for each; smaller steps are filled up with rows that store nothing
and are not looked at. What is met for the first time is recorded then, so nothing is recorded at the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.inference.cuda.places import Places
from arriero.inference.kv_pool import blocks_of
from arriero.inference.rows import Rows

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of rows for which steps are recorded; larger steps are not."""

LEAST_WIDTH = 8
"""Blocks of a row in the narrowest recorded step; each wider one has twice as many."""

Work = Callable[[], Tensor]
Capture = Callable[[Work], tuple[Callable[[], object], Tensor]]
"""Records what a work does on the device: how to do it again, and the tensor that its result will be in every time."""

_COLUMNS = 3


class CaptureError(ArrieroError):
    """A step could not be recorded."""


@dataclass(frozen=True)
class Inputs:
    """What a recorded step reads: one int32 tensor [rows, 3 + width], filled by one copy.

    Columns: token id, position, tokens that the row sees (0: no row), blocks.
    """

    state: Tensor
    owners: Tensor
    part: int

    @property
    def ids(self) -> Tensor:
        """int64 [1, rows]."""
        return self.state[:, 0].long().unsqueeze(0)

    @property
    def positions(self) -> Tensor:
        """int64 [1, rows]."""
        return self.state[:, 1].long().unsqueeze(0)

    def places(self) -> Places:
        """Where the rows lie, copied within the recorded step."""
        tables, lengths = self.state[:, _COLUMNS:].contiguous(), self.state[:, 2].contiguous()
        return Places(tables, self.owners, lengths, self.part)


@dataclass(frozen=True)
class _Recorded:
    inputs: Inputs
    replay: Callable[[], object]
    logits: Tensor


class DecodeGraphs:
    """The recorded steps of one model.

    Args:
        step: from the inputs to logits float32 [rows, vocab_size], by work on the device alone.
        capture: records work.
        context_length: tokens of the longest sequence.
        part: see ``Places``.
    """

    def __init__(
        self, step: Callable[[Inputs], Tensor], capture: Capture, context_length: int, part: int, device: str
    ) -> None:
        self._step, self._capture, self._device, self._part = step, capture, device, part
        self._widest = blocks_of(context_length)
        self._recorded: dict[tuple[int, int], _Recorded] = {}

    def __len__(self) -> int:
        return len(self._recorded)

    def clear(self) -> None:
        """Forget all recorded steps: the memory that they read may not be the model's any more."""
        self._recorded.clear()

    @staticmethod
    def takes(rows: Rows) -> bool:
        """True for steps in which each of at most ``SIZES[-1]`` sequences takes one token, without adapters, and all
        logits are wanted."""
        return (
            0 < len(rows) == len(rows.spans) == len(rows.wanted)
            and len(rows) <= SIZES[-1]
            and all(span.adapter is None for span in rows.spans)
        )

    def run(self, rows: Rows) -> Tensor:
        """Logits float32 [len(rows), vocab_size] of rows that this :meth:`takes`.

        Raises:
            CaptureError: such a step cannot be recorded.
        """
        widths = [blocks_of(span.stored + 1) for span in rows.spans]
        size = next(size for size in SIZES if size >= len(rows))
        width = min(self._widest, max(LEAST_WIDTH, 1 << (max(widths) - 1).bit_length()))
        recorded = self._recorded.get((size, width))
        if recorded is None:
            recorded = self._recorded[size, width] = self._record(size, width)
        recorded.inputs.state.copy_(_filled(rows, widths, size, width))
        recorded.replay()
        return recorded.logits[: len(rows)].clone()  # the next replay writes over it

    def _record(self, size: int, width: int) -> _Recorded:
        """Nothing is stored by what runs here: no row is filled in yet."""
        state = torch.zeros(size, _COLUMNS + width, dtype=torch.int32, device=self._device)
        inputs = Inputs(state, torch.arange(size, dtype=torch.int32, device=self._device), self._part)
        try:
            replay, logits = self._capture(lambda: self._step(inputs))
        except RuntimeError as error:  # an operation that cannot be recorded, or no memory left for it
            raise CaptureError(f"a step of {size} rows cannot be recorded: {error}") from error
        return _Recorded(inputs, replay, logits)


def _filled(rows: Rows, widths: list[int], size: int, width: int) -> Tensor:
    """The state of a step, int32 [size, 3 + width]; rows that are not there are zeros."""
    lines = []
    for span, own in zip(rows.spans, widths, strict=True):
        line = [rows.ids[span.first], rows.positions[span.first], span.stored + 1, *span.blocks[:own]]
        lines.append(line + [0] * (_COLUMNS + width - len(line)))
    lines += [[0] * (_COLUMNS + width)] * (size - len(lines))
    return torch.tensor(lines, dtype=torch.int32)


class CudaCapture:
    """Records CUDA graphs, which share the memory of their intermediate results."""

    def __init__(self) -> None:
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> tuple[Callable[[], object], Tensor]:
        """Runs the work twice before it records it, so that all kernels are compiled and loaded and libraries set up."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # other threads (vectors) may use the device while this one records
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            logits = work()
        return graph.replay, logits
