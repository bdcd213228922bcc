"""Programs of the native library: a forward pass as a list of operations, mirrored from ``csrc/program.h``."""

from __future__ import annotations

import ctypes
from array import array
from ctypes import POINTER, Structure, byref, c_float, c_int32, c_size_t, c_void_p
from dataclasses import dataclass, field
from typing import Any

from arriero.native.library import library
from arriero.native.matrices import NativeMatrix

EMBED, NORM, PRODUCT, STORE, ATTEND, MERGE, GATED, ACT, GATHER, LOW_RANK_DOWN, LOW_RANK_UP = range(11)
NORMS = {"none": 0, "rms": 1, "layer": 2}
ACTIVATIONS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "gelu_quick": 3, "relu": 4, "tanh": 5}
FP32, BF16, INT8 = range(3)
NONE, LOGITS = -1, -2
MOST_RANK = 128
"""Largest rank of an adapter (``AR_MOST_RANK``)."""


class Pool(Structure):
    """``ar_pool``: where keys and values lie, as [n_layers, n_blocks, n_kv_heads, 64, head_dim]."""

    _fields_ = [
        ("kind", c_int32), ("n_blocks", c_int32), ("n_kv_heads", c_int32), ("head_dim", c_int32),
        ("keys", c_void_p), ("values", c_void_p), ("key_scales", c_void_p), ("value_scales", c_void_p),
    ]  # fmt: skip


class Heads(Structure):
    """``ar_heads``: what the attentions of all layers have in common."""

    _fields_ = [
        ("n_heads", c_int32), ("window", c_int32), ("rotary_width", c_int32), ("tables", c_int32),
        ("scale", c_float), ("pad", c_float),
        ("cos", c_void_p), ("sin", c_void_p), ("slopes", c_void_p),
    ]  # fmt: skip


class Step(Structure):
    """``ar_step``: one step's rows."""

    _fields_ = [
        ("rows", c_int32), ("n_spans", c_int32), ("n_wanted", c_int32), ("pad", c_int32),
        ("ids", c_void_p), ("positions", c_void_p), ("wanted", c_void_p), ("blocks", c_void_p),
        ("spans", c_void_p), ("logits", c_void_p), ("adapters", c_void_p),
    ]  # fmt: skip


class LowRank(Structure):
    """``ar_low_rank``: what an adapter adds to columns of a product; rank 0: nothing."""

    _fields_ = [
        ("rank", c_int32), ("n", c_int32), ("column", c_int32), ("pad", c_int32),
        ("a", c_void_p), ("b", c_void_p),
    ]  # fmt: skip


class Op(Structure):
    """``ar_op``."""

    _fields_ = [
        ("kind", c_int32), ("wanted", c_int32), ("chained", c_int32),
        ("input", c_int32), ("in2", c_int32), ("in3", c_int32), ("out", c_int32),
        ("width", c_int32), ("layer", c_int32), ("variant", c_int32), ("variant2", c_int32), ("offset", c_int32),
        ("eps", c_float), ("pad", c_float),
        ("weight", c_void_p), ("bias", c_void_p), ("matrix", c_void_p),
    ]  # fmt: skip


class _Program(Structure):
    _fields_ = [
        ("ops", POINTER(Op)), ("widths", POINTER(c_int32)), ("n_ops", c_int32), ("n_buffers", c_int32),
        ("heads", Heads),
    ]  # fmt: skip


@dataclass
class Builder:
    """Collects operations and buffers."""

    widths: list[int] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    """What the operations point into."""

    def buffer(self, width: int) -> int:
        """Number of a new buffer whose rows are so wide."""
        self.widths.append(width)
        return len(self.widths) - 1

    def add(
        self,
        kind: int,
        *,
        input: int = NONE,
        in2: int = NONE,
        in3: int = NONE,
        out: int = NONE,
        matrix: NativeMatrix | None = None,
        weight: Any = None,
        bias: Any = None,
        **fields: Any,
    ) -> Op:
        """Append an operation. ``weight`` and ``bias`` are contiguous tensors, which are kept alive."""
        self.kept += [matrix, weight, bias]
        op = Op(kind=kind, input=input, in2=in2, in3=in3, out=out, **fields)
        op.weight = None if weight is None else weight.data_ptr()
        op.bias = None if bias is None else bias.data_ptr()
        op.matrix = None if matrix is None else ctypes.addressof(matrix.struct)
        self.ops.append(op)
        return op


class Program:
    """A finished list of operations."""

    def __init__(self, builder: Builder, heads: Heads, kept: Any = ()) -> None:
        self._kept = (builder, heads, kept)
        self._ops = (Op * len(builder.ops))(*builder.ops)
        self._widths = (c_int32 * len(builder.widths))(*builder.widths)
        self._program = _Program(self._ops, self._widths, len(builder.ops), len(builder.widths), heads)
        self._arena: Any = None
        loaded = library()
        self._bytes, self._run, self._threads = (
            loaded.ar_program_bytes, loaded.ar_program_run, loaded.ar_get_threads
        )  # fmt: skip
        self._bytes.restype = c_size_t
        self._bytes.argtypes = [c_void_p, c_void_p, c_void_p, c_int32]
        self._run.restype = None
        self._run.argtypes = [c_void_p, c_void_p, c_void_p, c_void_p, c_int32]

    def set_adapters(self, tables: dict[int, Any]) -> None:
        """Give operations their tables: number of the operation -> array of :class:`LowRank` [adapters, products]."""
        self._tables = tables
        for number, table in tables.items():
            self._ops[number].weight = ctypes.addressof(table)

    def run(
        self,
        pool: Pool,
        ids: list[int],
        positions: list[int],
        spans: list[tuple[int, int, int, list[int]]],
        wanted: list[int],
        logits: int,
        adapters: list[int] | None = None,
    ) -> None:
        """Compute the rows.

        Args:
            spans: first row, number of rows, tokens in the pool already, blocks: for each sequence, in order.
            wanted: rows whose logits are written.
            logits: address of float32 [len(wanted), vocab_size].
            adapters: of each row the number of its adapter in the tables of :meth:`set_adapters`, -1: none.
        """
        blocks: list[int] = []
        flat: list[int] = []
        for first, count, stored, own in spans:
            flat += (first, count, stored, len(blocks))
            blocks += own
        arrays = [array("i", x) for x in (ids, positions, wanted, blocks, flat)]
        places = [x.buffer_info()[0] for x in arrays]
        rows_adapters = None if adapters is None else array("i", adapters)
        told = None if rows_adapters is None else rows_adapters.buffer_info()[0]
        step = Step(len(ids), len(spans), len(wanted), 0, *places, logits, told)
        threads = self._threads()
        size = self._bytes(byref(self._program), byref(pool), byref(step), threads)
        if self._arena is None or len(self._arena) < size + 64:
            self._arena = bytearray(size + size // 4 + 64)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._arena))
        self._run(byref(self._program), byref(pool), byref(step), address, threads)
