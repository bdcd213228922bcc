"""How a run is laid out over its devices where the question does not say: the fastest layout that fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arriero.cost.cut import Cut
from arriero.cost.search.space import dealt_out
from arriero.cost.workload import Dimensions, Recompute
from arriero.errors import ArrieroError

_MODES: tuple[Recompute, ...] = ("none", "selective", "full")
_POWERS = tuple(2**n for n in range(8))
_LONG = 32768
"""Tokens from which on cutting each sequence is looked at too."""
_OVER = 1.25
"""A step may become so much larger than asked for, where a layout cannot deal it out evenly."""
_NEARLY = 1.25
"""Where nothing fits, the fastest within so much of the least memory is shown: the least alone may take many times as
long for a tenth less, which does not fit either."""


@dataclass(frozen=True)
class Wish:
    """What a question says of a layout; None leaves it open.

    Attributes:
        count: devices. node: of them in one machine. batch: sequences of a step.
    """

    dimensions: Dimensions
    context: int
    count: int
    batch: int
    node: int = 8
    parallel: dict[str, int] | None = None
    zero: int | None = None
    micro_batch: int | None = None
    recompute: Recompute | None = None
    cuttable: bool = True


@dataclass(frozen=True)
class Layouts:
    """Layouts as columns, int64 [layouts]; ``recompute`` holds the modes' names."""

    cut: Cut
    micro_batch: np.ndarray
    accumulation: np.ndarray
    recompute: np.ndarray

    @property
    def sequences(self) -> np.ndarray:
        """Sequences of a step."""
        found: np.ndarray = np.asarray(self.cut.data) * self.micro_batch * self.accumulation
        return found

    def __len__(self) -> int:
        return len(self.micro_batch)


@dataclass(frozen=True)
class Layout:
    """One layout of a run: of :class:`Layouts`, a row."""

    cut: Cut
    micro_batch: int
    accumulation: int
    recompute: Recompute
    tried: int = 1

    @property
    def sequences(self) -> int:
        """Sequences of a step."""
        return int(self.cut.data) * self.micro_batch * self.accumulation


def layouts(wish: Wish) -> Layouts:
    """Every layout that a question leaves open and that divides.

    Raises:
        ArrieroError: none does; says what does not divide where the layout was given.
    """
    axes = (*_sizes(wish), _zeros(wish), _micro_batches(wish), range(3))
    tensor, context, pipeline, zero, micro, mode = (
        axis.ravel().astype(np.int64) for axis in np.meshgrid(*map(list, axes), indexing="ij")
    )
    data, kept = dealt_out(wish.count, tensor, context, pipeline, wish.context)
    sharers = data * context
    if wish.zero is None:
        kept &= zero == np.where(sharers == 1, 0, np.where(pipeline > 1, 1, zero))
        kept &= (sharers == 1) | (zero > 0)
    if wish.recompute is not None:
        kept &= np.array(_MODES)[mode] == wish.recompute
    if not kept.any():
        raise ArrieroError(_why_none(wish))
    accumulation = np.maximum(1, np.rint(wish.batch / (np.maximum(data, 1) * micro))).astype(np.int64)
    over = data * micro * accumulation / wish.batch
    close = kept & (over <= max(_OVER, over[kept].min()))
    rows = np.flatnonzero(close)
    cut = Cut(
        data=data[rows], tensor=tensor[rows], context=context[rows], pipeline=pipeline[rows],
        sequence=tensor[rows] > 1, zero=zero[rows],
        chunks=_chunks(wish.dimensions.n_layers, pipeline[rows], accumulation[rows]),
    )  # fmt: skip
    return Layouts(cut, micro[rows], accumulation[rows], np.array(_MODES)[mode[rows]])


def _chunks(n_layers: int, pipeline: np.ndarray, accumulation: np.ndarray) -> np.ndarray:
    """Interleaved to single blocks where micro-batches come in multiples of the stages, as the schedule wants them; the
    405B of Llama 3 was trained so (arXiv 2407.21783, section 3.3.2)."""
    even = (pipeline > 1) & (accumulation % pipeline == 0)
    found: np.ndarray = np.where(even, np.ceil(n_layers / pipeline), 1).astype(np.int64)
    return found


def choose(found: Layouts, seconds: np.ndarray, peak: np.ndarray, capacity: float | None) -> Layout:
    """:func:`choose_row` as a layout."""
    return row_of(found, choose_row(found, seconds, peak, capacity))


def choose_row(found: Layouts, seconds: np.ndarray, peak: np.ndarray, capacity: float | None) -> int:
    """The fastest layout, a sequence, of those whose upper end of memory fits; where none does, of the smallest.

    Args:
        seconds: of one step, [layouts]; NaN where it is unknown, then the simplest layout that fits is taken.
        peak: upper end of a device's bytes, [layouts]. capacity: bytes of a device; None: all count as fitting.
    """
    most = np.inf if capacity is None else capacity
    if peak.min() > most:
        most = _NEARLY * peak.min()
    pace = seconds / found.sequences
    splits = np.asarray(found.cut.tensor) * np.asarray(found.cut.pipeline) * np.asarray(found.cut.context)
    order = np.lexsort([np.asarray(found.cut.zero), splits, np.nan_to_num(pace, nan=np.inf)])
    return int(order[peak[order] <= most][0])


def row_of(found: Layouts, row: int) -> Layout:
    """One of them."""
    names = ("data", "tensor", "context", "pipeline", "zero", "chunks")
    sizes = {name: int(np.asarray(getattr(found.cut, name))[row]) for name in names}
    cut = Cut(**sizes, sequence=bool(sizes["tensor"] > 1))
    mode: Recompute = str(found.recompute[row])  # type: ignore[assignment]
    return Layout(cut, int(found.micro_batch[row]), int(found.accumulation[row]), mode, len(found))


def usual_batch_tokens(parameters: int) -> float:
    """Tokens of a step by the size of the model: after Brown et al. (arXiv 2005.14165, table 2.1), and above what is in
    it after Llama 3's 405B, most of which was trained with 2,048 sequences of 8,192 (arXiv 2407.21783, section 3.4.1)."""
    known = ((8e8, 5e5), (3e9, 1e6), (1.5e10, 2e6), (2e11, 4e6), (np.inf, 2.0**24))
    return next(tokens for most, tokens in known if parameters < most)


def _sizes(wish: Wish) -> tuple[list[int], list[int], list[int]]:
    """Sizes to try of tensor, context and pipeline."""
    if wish.parallel is not None:
        given = wish.parallel
        return [given["tensor"]], [given["context"]], [given["pipeline"]]
    if not wish.cuttable or wish.count == 1:
        return [1], [1], [1]
    size = wish.dimensions
    tensor = [
        n
        for n in _POWERS
        if n <= wish.node and size.n_heads % n == 0 and not (size.n_kv_heads % n and n % size.n_kv_heads)
    ]
    pipeline = [n for n in _POWERS if n <= size.n_layers // 2 or n == 1]
    pipeline += [n for n in range(3, 65) if size.n_layers % n == 0 and n not in pipeline]
    return tensor, [n for n in _POWERS if n == 1 or (wish.context >= _LONG and n <= 16)], pipeline


def _zeros(wish: Wish) -> list[int]:
    return [0, 1, 3] if wish.zero is None else [wish.zero]


def _micro_batches(wish: Wish) -> list[int]:
    return [n for n in _POWERS if n <= wish.batch] if wish.micro_batch is None else [wish.micro_batch]


def _why_none(wish: Wish) -> str:
    if wish.parallel is not None:
        return f"the layout does not cut context {wish.context:,} and {wish.count} devices evenly"
    return f"no layout deals the model out over {wish.count} devices; give one with --parallel"
