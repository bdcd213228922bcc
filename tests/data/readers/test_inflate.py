"""Both libraries give the same bytes and refuse the same damage."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.readers.inflate import ERRORS, gzip_member


def run(member: Any, data: bytes, step: int, most: int) -> tuple[bytes, bool, bytes] | None:
    """(content, complete, what follows), or None for damage."""
    out = b""
    try:
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            while piece and not member.eof:
                out += member.decompress(piece, most)
                piece = member.unconsumed_tail
            if member.eof:
                return out, True, member.unused_data + data[at + step :]
    except ERRORS:
        return None
    return out, False, b""


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_as_zlib_does(data: st.DataObject) -> None:
    rng = random.Random(data.draw(st.integers(0, 99)))
    content = bytes(rng.choices(b"abcdef \n", k=rng.randrange(3000)))
    packed = bytearray(gzip.compress(content, data.draw(st.integers(0, 9))) + b"tail")
    for _ in range(data.draw(st.integers(0, 2))):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    raw = bytes(packed[: data.draw(st.integers(1, len(packed)))])
    step, most = data.draw(st.integers(1, 4000)), data.draw(st.integers(1, 4000))
    mine, theirs = run(gzip_member(), raw, step, most), run(zlib.decompressobj(31), raw, step, most)
    if theirs is not None and theirs[1]:
        assert mine == theirs
    else:
        assert mine is None or not mine[1]


def test_the_fast_library_is_used_where_it_is() -> None:
    isal_zlib = pytest.importorskip("isal.isal_zlib", exc_type=ImportError)
    assert isinstance(gzip_member(), type(isal_zlib.decompressobj()))
