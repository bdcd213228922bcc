"""What the library tells of a page's bytes is what Python tells."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arriero.data.extract.budget import _NESTS_BYTES, _quick_depth
from arriero.native import pages

pytestmark = pytest.mark.skipif(not pages.available(), reason="the native library is not there")
_TAGS = [
    b"<",
    b"</",
    b"<div",
    b"</div>",
    b"<P>",
    b"<br/>",
    b"<h1>",
    b"<!--",
    b"<td",
    b"<li",
    b"</a",
    b"<a",
    b"x",
    b"<\xc3",
    b"/",
    b">",
    b"<s",
]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\xed\xa0\x80")
@example(b"\xf4\x90\x80\x80")
@example(b"\xc0\x80")
@example(b"aaaaaaaa\xe2\x82")
def test_utf8_is_what_python_decodes(data: bytes) -> None:
    assert pages.is_utf8(data) == _is_utf8(data)
    assert pages.is_utf8(b"x" * 37 + data + b"y" * 11) == _is_utf8(b"x" * 37 + data + b"y" * 11)


@given(st.lists(st.sampled_from(_TAGS)).map(b"".join) | st.binary(max_size=60))
def test_depth_is_that_of_the_fallback(page: bytes) -> None:
    assert pages.page_depth(page, _NESTS_BYTES) == _quick_depth(page)


def test_a_bomb_is_counted() -> None:
    assert pages.page_depth(b"<div>" * 1_000_000, _NESTS_BYTES) == 1_000_000
