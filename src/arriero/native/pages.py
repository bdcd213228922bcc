"""What the native library tells of a page's bytes (``csrc/text_page.c``)."""

from __future__ import annotations

import ctypes
from functools import cache

from arriero.native import library


def available() -> bool:
    """True where the functions can be used."""
    return library.available()


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are valid UTF-8, as Python decodes it."""
    return bool(_library().ar_text_is_utf8(data, len(data)))


def page_depth(page: bytes, nests: bytes) -> int:
    """:func:`arriero.data.extract.budget.quick_depth`. ``nests``: uint8[32768].

    Raises:
        MemoryError: memory does not suffice.
    """
    depth: int = _library().ar_page_depth(page, len(page), nests)
    if depth < 0:
        raise MemoryError("not enough memory to count a page's tags")
    return depth


@cache
def _library() -> ctypes.CDLL:
    found = library.library()
    data, size = ctypes.c_char_p, ctypes.c_size_t
    found.ar_text_is_utf8.argtypes = [data, size]
    found.ar_page_depth.argtypes, found.ar_page_depth.restype = [data, size, data], ctypes.c_int64
    return found
