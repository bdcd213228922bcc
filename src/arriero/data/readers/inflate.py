"""Decompressing gzip members: by ISA-L where the package isal is installed (faster), else by zlib.

Both give the same bytes and refuse the same damage, told in the same words here so that ledgers are equal.
"""

from __future__ import annotations

import zlib
from typing import Any


def _fastest() -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib, (zlib.error,)
    damaged: Any = isal_zlib.error
    return isal_zlib, (zlib.error, damaged)


_LIBRARY, ERRORS = _fastest()
"""``ERRORS``: what a member raises on damaged data."""
DAMAGED = "the gzip data are damaged"


def gzip_member() -> Any:
    """A decompressor of one gzip member, with the methods of ``zlib.decompressobj``; it checks length and CRC."""
    return _LIBRARY.decompressobj(31)
