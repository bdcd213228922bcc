"""Arrow columns of Python's values and back, by numpy: what ``pyarrow.array`` and ``to_numpy`` make.

Those import pandas, where it is installed, to see whether they were given a part of it; that takes longer than hundreds
of ledger rows do. What is not plain (a float for an integer, bytes for a string) is left to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_EXACT = {pa.float32(): 1 << 24, pa.float64(): 1 << 53}
"""Integers up to here are numbers of that type."""


class _NotPlainError(Exception):
    """The values need what ``pyarrow.array`` knows."""


def to_array(values: Sequence[Any], type: pa.DataType) -> pa.Array:
    """A column of a type; None is null.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError, TypeError: a value does not fit.
    """
    try:
        return _plain(values, type)
    except (_NotPlainError, ValueError, OverflowError):
        return pa.array(values, type)


def scalar(value: Any, type: pa.DataType) -> pa.Scalar:
    """One value, as Arrow's functions take it."""
    return to_array([value], type)[0]


def places(rows: Sequence[int] | NDArray[np.int64]) -> pa.Array:
    """Row numbers, as ``take`` takes them."""
    numbers = np.ascontiguousarray(rows, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def to_numpy(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """A column as an array, of which nothing may be written. Numbers with a null among them are float64, null is NaN;
    what is neither number nor truth value is an object."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    found = [_chunk(chunk) for chunk in chunks]
    if not found:
        return _chunk(_plain([], column.type))
    return found[0] if len(found) == 1 else np.concatenate(found)


def _chunk(chunk: pa.Array) -> NDArray[Any]:
    if not (pa.types.is_integer(chunk.type) or pa.types.is_floating(chunk.type)):
        plain = pa.types.is_boolean(chunk.type) and not chunk.null_count
        return np.array(chunk.to_pylist(), np.bool_ if plain else object)
    validity, data = chunk.buffers()
    dtype = np.dtype(chunk.type.to_pandas_dtype())
    if not len(chunk):
        return np.zeros(0, dtype)
    values = np.frombuffer(data, dtype, len(chunk), chunk.offset * dtype.itemsize)
    if not chunk.null_count:
        return values
    bits = np.unpackbits(
        np.frombuffer(validity, np.uint8), bitorder="little", count=chunk.offset + len(chunk)
    )
    return np.where(bits[chunk.offset :] > 0, values, np.float64(np.nan))


def _plain(values: Sequence[Any], type: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type):
        return _dictionary(values, type)
    if pa.types.is_list(type):
        return _list(values, type)
    if pa.types.is_struct(type):
        return _struct(values, type)
    present = np.fromiter((value is not None for value in values), np.bool_, len(values))
    if pa.types.is_string(type):
        buffers = _text(["" if value is None else value for value in values])
    elif pa.types.is_fixed_size_binary(type):
        buffers = [pa.py_buffer(_bytes(values, type.byte_width))]
    elif pa.types.is_boolean(type):
        buffers = [_bits(_numbers(values, present, "b", False).astype(np.bool_))]
    else:
        buffers = [pa.py_buffer(_figures(values, present, type))]
    return _from_buffers(type, present, buffers)


def _from_buffers(
    type: pa.DataType, present: NDArray[np.bool_], buffers: list[pa.Buffer], children: Sequence[pa.Array] = ()
) -> pa.Array:
    nulls = int(len(present) - np.count_nonzero(present))
    validity = _bits(present) if nulls else None
    return pa.Array.from_buffers(type, len(present), [validity, *buffers], nulls, children=list(children))


def _bits(flags: NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def _numbers(values: Sequence[Any], present: NDArray[np.bool_], kinds: str, fill: object) -> NDArray[Any]:
    """The values as numpy takes them, if they are of one of the ``kinds`` of its types."""
    given = values if present.all() else [fill if value is None else value for value in values]
    found = np.array(given) if len(given) else np.zeros(0, np.bool_ if kinds == "b" else np.int64)
    if found.ndim != 1 or found.dtype.kind not in kinds:
        raise _NotPlainError
    return found


def _figures(values: Sequence[Any], present: NDArray[np.bool_], type: pa.DataType) -> NDArray[Any]:
    if pa.types.is_integer(type):
        found = _numbers(values, present, "iu", 0)
        wanted = found.astype(type.to_pandas_dtype())
        if not np.array_equal(wanted, found):
            raise _NotPlainError
        return wanted
    if type not in _EXACT:
        raise _NotPlainError
    found = _numbers(values, present, "iuf", 0.0)
    if found.dtype.kind != "f" and np.abs(found).max(initial=0) > _EXACT[type]:
        raise _NotPlainError
    with np.errstate(over="ignore"):
        return found.astype(type.to_pandas_dtype())


def _text(values: Sequence[Any]) -> list[pa.Buffer]:
    if not all(isinstance(value, str) for value in values):
        raise _NotPlainError
    encoded = [value.encode() for value in values]
    return [_offsets(map(len, encoded)), pa.py_buffer(b"".join(encoded))]


def _offsets(sizes: Any) -> pa.Buffer:
    ends = np.array([*accumulate(sizes, initial=0)], np.int64)
    if ends[-1] > np.iinfo(np.int32).max:
        raise _NotPlainError
    return pa.py_buffer(ends.astype(np.int32))


def _bytes(values: Sequence[Any], width: int) -> bytes:
    blank = bytes(width)
    filled = [blank if value is None else value for value in values]
    if not all(isinstance(value, bytes) and len(value) == width for value in filled):
        raise _NotPlainError
    return b"".join(filled)


def _dictionary(values: Sequence[Any], type: pa.DictionaryType) -> pa.Array:
    known: dict[Any, int] = {}
    codes = [None if value is None else known.setdefault(value, len(known)) for value in values]
    return pa.DictionaryArray.from_arrays(
        _plain(codes, type.index_type), _plain([*known], type.value_type), ordered=type.ordered
    )


def _list(values: Sequence[Any], type: pa.ListType) -> pa.Array:
    if not all(value is None or isinstance(value, list) for value in values):
        raise _NotPlainError
    present = np.fromiter((value is not None for value in values), np.bool_, len(values))
    inner = _plain([*chain.from_iterable(value or () for value in values)], type.value_type)
    offsets = _offsets(len(value or ()) for value in values)
    return _from_buffers(type, present, [offsets], [inner])


def _struct(values: Sequence[Any], type: pa.StructType) -> pa.Array:
    if not all(isinstance(value, dict) for value in values):
        raise _NotPlainError
    children = [_plain([value.get(field.name) for value in values], field.type) for field in type]
    return _from_buffers(type, np.ones(len(values), np.bool_), [], children)
