"""Columns by numpy are those that pyarrow makes."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.data.audit.arrays import places, scalar, to_array, to_numpy
from arriero.data.audit.schema import BASE, EDIT

_INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_EDITS = st.lists(
    st.fixed_dictionaries(
        {"start": _INT32, "end": _INT32, "replacement": st.none() | _TEXT}, optional={"reason": _TEXT}
    )
)
_PLAIN: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int32(), _INT32),
    (pa.int64(), st.integers(-(1 << 63), (1 << 63) - 1)),
    (pa.float32(), st.floats(width=32) | st.integers(-(1 << 24), 1 << 24)),
    (pa.float64(), st.floats() | st.integers(-(1 << 53), 1 << 53)),
    (pa.bool_(), st.booleans()),
    (pa.string(), _TEXT),
    (pa.dictionary(pa.int32(), pa.string()), _TEXT),
    (pa.binary(16), st.binary(min_size=16, max_size=16)),
    (pa.list_(EDIT), _EDITS),
]


@given(st.data())
def test_a_column_is_that_of_pyarrow(data: st.DataObject) -> None:
    type, values = data.draw(st.sampled_from(_PLAIN))
    given = data.draw(st.lists(st.none() | values, max_size=20))
    found, wanted = to_array(given, type), pa.array(given, type)
    found.validate(full=True)
    assert found.type == wanted.type
    assert found.null_count == wanted.null_count
    assert repr(found.to_pylist()) == repr(wanted.to_pylist())  # NaN is not equal to itself


@pytest.mark.parametrize("values", [["a"], [1 << 40]])
def test_what_does_not_fit_is_refused_as_by_pyarrow(values: list[Any]) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError, OverflowError)):
        to_array(values, pa.int32())


def test_odd_values_are_left_to_pyarrow() -> None:
    assert to_array([b"a", "b"], pa.string()).to_pylist() == ["a", "b"]
    assert to_array([[None]], pa.list_(EDIT)).to_pylist() == [[None]]
    assert to_array([np.float32(0.5), None], pa.float32()).to_pylist() == [0.5, None]


@given(st.lists(st.none() | st.integers(-9, 9)), st.integers(0, 5), st.booleans())
def test_an_array_of_a_column_is_that_of_pyarrow(values: list[int | None], start: int, chunked: bool) -> None:
    column = pa.array(values, pa.int64()).slice(min(start, len(values)))
    given = pa.chunked_array([column, column.slice(1)]) if chunked else column
    found = to_numpy(given)
    np.testing.assert_array_equal(found, given.to_numpy(zero_copy_only=False))
    assert (found.dtype == np.float64) == bool(given.null_count)


def test_other_columns_are_objects_and_truth_values() -> None:
    assert to_numpy(pa.array(["a", None])).tolist() == ["a", None]
    assert to_numpy(pa.array([True, False])).dtype == np.bool_
    assert to_numpy(pa.chunked_array([], pa.float32())).shape == (0,)
    assert math.isnan(to_numpy(pa.array([1.0, None], pa.float32()))[1])


def test_places_and_single_values() -> None:
    column = pa.array(["a", "b", "c"])
    assert column.take(places(np.array([2, 0]))).to_pylist() == ["c", "a"]
    assert scalar("x", pa.string()).as_py() == "x"


def test_pandas_is_not_imported() -> None:
    code = (
        "import sys, pyarrow as pa; from arriero.data.audit.arrays import *;"
        f" from arriero.data.audit.schema import BASE; assert len(BASE) == {len(BASE)};"
        " [to_numpy(to_array([None], field.type)) for field in BASE]; sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
