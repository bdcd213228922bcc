"""Keeping freed memory in the process instead of handing it back and fetching it again.

The C library maps every large tensor afresh and returns it to the system when it is freed. Each page then
faults on first touch, every step anew; on virtual machines that can take longer than the arithmetic.
"""

from __future__ import annotations

import ctypes
import gc
import sys

from arriero.cost.device import profile_path
from arriero.native.tensor_memory import install, installed

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make large freed blocks room for the next. Call before the first large tensor, in training and in calibrating alike.

    Tensors get a range of their own where they can (:func:`give_tensors_a_range`); what else is large is kept in the C
    library's heap.

    Returns False where the C library has no such switch (it is glibc's ``mallopt``).
    """
    give_tensors_a_range()
    library = _glibc()
    if library is None:
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, 2**30)) and bool(
        library.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    )


def give_tensors_a_range() -> bool:
    """Let torch's tensors live in an address range of their own from now on, where no small objects pin what is free
    between them (``arriero.native.tensor_memory``; benchmarks/tensor_memory.py).

    Returns False where torch is not loaded, its headers or a C++ compiler are missing, or address space is limited.
    """
    return install(profile_path().parent) is not None


def return_freed_memory() -> bool:
    """Hand what is free back to the system, so that the next stage's peak memory is its own."""
    tensors = installed()
    if tensors is not None:
        tensors.trim()
    library = _glibc()
    return library is not None and bool(library.malloc_trim(0))


def start_afresh() -> bool:
    """Drop what earlier work in this process has left, garbage in cycles too, and hand it back to the system.

    Memory that :func:`keep_freed_memory` keeps would otherwise count as the next stage's.
    """
    gc.collect()
    return return_freed_memory()


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
