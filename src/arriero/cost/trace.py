"""Tracing: run a training step (or anything) on fake tensors and write down what it would take.

Nothing is allocated and nothing is computed, yet the very code that will run is what is counted: there is no
second set of formulas that can drift from it. FLOPs are exact; memory is the bytes of all live storages,
the same figure that the same tracker gives on a real run (:func:`trace` with ``fake=False``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

from arriero.cost.operations import Kind, Work, describe, looks_like_product, tensors, traffic
from arriero.cost.turns import counting

T = TypeVar("T")


@dataclass(frozen=True)
class Op:
    """All calls of one operation with one signature. ``flops`` and ``bytes`` are those of a single call."""

    name: str
    kind: Kind
    dtype: str
    m: int
    k: int
    n: int
    batch: int
    flops: float
    bytes: int
    count: int


@dataclass(frozen=True)
class Trace:
    """What a piece of code would take.

    Attributes:
        ops: the operations of ``run``, aggregated by signature, in order of first appearance.
        state_bytes: storage that ``make`` left allocated (parameters, optimizer state, batch).
        peak_bytes: most storage live at any moment of ``run``, the state included.
        uncounted: names of operations that look like matrix products but whose FLOPs are not known.
        end_bytes: storage live when ``run`` had ended, its result included.
    """

    ops: list[Op]
    state_bytes: int
    peak_bytes: int
    uncounted: tuple[str, ...] = ()
    end_bytes: int = 0

    @property
    def flops(self) -> float:
        """Multiply-adds count two; causal attention counts half its square; element-wise work is left out."""
        return sum(op.flops * op.count for op in self.ops)

    @property
    def bytes(self) -> int:
        """Bytes read and written by all operations, each operand once a call."""
        return sum(op.bytes * op.count for op in self.ops)

    def flops_by_kind(self) -> dict[str, float]:
        result: dict[str, float] = {}
        for op in self.ops:
            result[op.kind] = result.get(op.kind, 0.0) + op.flops * op.count
        return result


def trace(
    make: Callable[[], T],
    run: Callable[[T], Any],
    *,
    fake: bool = True,
    live: LiveStorages | None = None,
) -> Trace:
    """Count what ``run(make())`` takes, on fake CPU tensors.

    Args:
        make: builds the state: model, optimizer, batch. Called inside the fake mode, so that a model of any size
            costs no memory. Build tensors with torch functions, not from numpy. An optimizer makes its state in its
            first step: take that step here, so that ``run`` is one like all the others.
        run: what is to be counted, e.g. forward, backward and the optimizer's step. Must not read values
            (``.item()``), because there are none.
        fake: False computes for real under the same tracker, to check the fake figures against.
        live: what counts the storages, for those who want to know more of them than the peak.
    """
    return trace_parts(make, run, fake=fake, live=live)[0]


def trace_parts(
    make: Callable[[], T], *runs: Callable[[T], Any], fake: bool = True, live: LiveStorages | None = None
) -> list[Trace]:
    """:func:`trace` of several pieces of code one after the other, each counted by itself.

    What a piece is to leave to the next it puts into the state, which therefore should be a container. ``state_bytes``
    and ``end_bytes`` of a piece are what was live before and after it.
    """
    live = live or LiveStorages()
    recorder = _Recorder(live)
    found = []
    with (
        FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext(),
        counting(recorder.times) if fake else nullcontext(),
        recorder,
    ):
        state = make()
        for tensor in _reachable(state):
            live.add(tensor)
        for run in runs:
            recorder.start()
            state_bytes = live.peak = live.bytes
            result = run(state)
            uncounted = tuple(sorted(recorder.uncounted))
            found.append(Trace(recorder.ops(), state_bytes, live.peak, uncounted, live.bytes))
            del result
    return found


def _reachable(state: Any) -> list[torch.Tensor]:
    """Tensors of modules and containers in ``state`` that were there before (everything new is seen anyway)."""
    found = list(tensors(state))
    parts = (
        state if isinstance(state, list | tuple) else state.values() if isinstance(state, dict) else [state]
    )
    for part in parts:
        if isinstance(part, torch.nn.Module):
            found += [*part.parameters(), *part.buffers()]
    return found


class LiveStorages:
    """Sum of the bytes of all storages seen that are still alive, and its peak."""

    def __init__(self) -> None:
        self.bytes = 0
        self.peak = 0
        self._refs: dict[int, tuple[weakref.ref[Any], int]] = {}

    def changed(self, key: int, n_bytes: int, tensor: torch.Tensor | None) -> None:
        """Storage ``key`` has so many bytes more (less, where negative) from now on; ``tensor`` is seen first."""
        self.bytes += n_bytes

    def add(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor; of one that wraps others (a collective's result that is waited for) theirs."""
        if is_traceable_wrapper_subclass(tensor):
            for name in tensor.__tensor_flatten__()[0]:
                self.add(getattr(tensor, name))
            return
        storage = tensor.untyped_storage()
        key, n_bytes = storage._cdata, storage.nbytes()
        known = self._refs.get(key)
        if known is not None and known[0]() is not None:
            if known[1] == n_bytes:
                return
            self._refs[key] = (known[0], n_bytes)  # resized in place
            self.changed(key, n_bytes - known[1], None)
        else:
            self._drop(key)
            reference = weakref.ref(storage, partial(self._freed, key))
            self._refs[key] = (reference, n_bytes)
            self.changed(key, n_bytes, tensor)
        self.peak = max(self.peak, self.bytes)

    def _freed(self, key: int, ref: weakref.ref[Any]) -> None:
        # the address may belong to a newer storage by now
        if key in self._refs and self._refs[key][0] is ref:
            self._drop(key)

    def _drop(self, key: int) -> None:
        entry = self._refs.pop(key, None)
        if entry is not None:
            self.changed(key, -entry[1], None)


class _Recorder(TorchDispatchMode):
    """Sees every aten operation, also those of the backward pass and the optimizer."""

    def __init__(self, live: LiveStorages) -> None:
        super().__init__()
        self._live = live
        self._counts: dict[tuple[str, str, Work, int], int] = {}
        self._recording = False
        self._weight = 1
        self.uncounted: set[str] = set()

    @contextmanager
    def times(self, count: int) -> Iterator[None]:
        """What runs in the body stands for ``count`` times as much."""
        self._weight *= count
        try:
            yield
        finally:
            self._weight //= count

    def start(self) -> None:
        """Forget what was recorded, and record from here on."""
        self._recording = True
        self._counts = {}
        self.uncounted = set()

    def ops(self) -> list[Op]:
        return [
            Op(name, work.kind, dtype, work.m, work.k, work.n, work.batch, work.flops, n_bytes, count)
            for (name, dtype, work, n_bytes), count in self._counts.items()
        ]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(hasattr(kind, "device_mesh") for kind in types):
            # of several processes: what it does to the part of this one comes by here next
            return NotImplemented
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        # In inference mode composite operations (linear, attention) arrive whole: take them apart as torch would,
        # that is unless the CPU has a kernel for the whole (silu_backward has).
        if not func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CPU):
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        for tensor in tensors(out):
            self._live.add(tensor)
        if self._recording:
            self._record(func, args, kwargs, out)
        return out

    def _record(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        work = describe(func, args, kwargs, out)
        n_bytes = traffic(func, args, kwargs, out)
        if not work.flops and work.kind == "other":
            if n_bytes == 0:
                return
            if looks_like_product(func):
                self.uncounted.add(func._schema.name)
        key = (func._schema.name.split("::")[1], _dtype(args, kwargs, out), work, n_bytes)
        self._counts[key] = self._counts.get(key, 0) + self._weight


def _dtype(args: Any, kwargs: dict[str, Any], out: Any) -> str:
    """The dtype the work is done in: of the first floating-point operand, else of the first tensor."""
    found = list(tensors((args, kwargs, out)))
    chosen = next((t for t in found if t.is_floating_point()), found[0] if found else None)
    return str(chosen.dtype).removeprefix("torch.") if chosen is not None else ""


__all__ = ["LiveStorages", "Op", "Trace", "trace", "trace_parts"]
