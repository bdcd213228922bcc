"""Find and load the native library by ctypes, or say why it is not there."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from arriero.errors import ArrieroError
from arriero.native.build import LIBRARY, SOURCES, sources_hash

SWITCH = "ARRIERO_NATIVE"
"""Environment variable: 0 leaves the library aside."""
LEVEL = "ARRIERO_NATIVE_LEVEL"
"""Environment variable: the highest instructions to use, one of LEVELS."""
LEVELS = ("portable", "avx2", "avx512", "avx512vnni")
ABI = 4
"""What this file and ``csrc/arriero.h`` agree on: AR_ABI."""
REBUILD = "`python -m arriero.native build` builds it"


class Matrix(ctypes.Structure):
    """``ar_matrix`` of ``csrc/arriero.h``."""

    _fields_ = [
        ("kind", ctypes.c_int32),
        ("n", ctypes.c_int32),
        ("k", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("scale_kind", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    ]


def available() -> bool:
    """True where native products can be used."""
    return os.environ.get(SWITCH) != "0" and not _load()[1]


def why_not() -> str:
    """Why native products cannot be used, in one line; empty where they can."""
    return f"{SWITCH}=0 leaves it aside" if os.environ.get(SWITCH) == "0" else _load()[1]


def library() -> ctypes.CDLL:
    """The loaded library.

    Raises:
        ArrieroError: it cannot be used; the message says why.
    """
    found = _load()[0]
    if found is None or not available():
        raise ArrieroError(f"the native library cannot be used: {why_not()}")
    return found


def level() -> str:
    """The instructions in use: one of LEVELS; ``none`` without the library."""
    return LEVELS[library().ar_level()] if available() else "none"


def build_id() -> str:
    """Twelve hexadecimal digits that tell one build of the library from another; ``none`` without it."""
    return str(library().ar_sources().decode()[:12]) if available() else "none"


def set_level(name: str) -> str:
    """Use at most these instructions, for tests and measurements; gives what is in use then.

    Raises:
        ArrieroError: there is no such level, or no library.
    """
    if name not in LEVELS:
        raise ArrieroError(f"{name} is no level of the native library; it has {', '.join(LEVELS)}")
    return LEVELS[library().ar_set_level(LEVELS.index(name))]


def rounds_activations_to_bf16() -> bool:
    """True where products with dense bf16 weights round the activations to bf16 (AVX512_BF16)."""
    return available() and bool(library().ar_has_bf16())


def set_threads(count: int) -> None:
    """Threads of a native product, with the one that calls it."""
    library().ar_set_threads(count)


def describe() -> str:
    """One line for people: what is in use, or why nothing is."""
    if not available():
        return f"native library: not in use: {why_not()}"
    return f"native library: {level()}, {LIBRARY}"


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """The library, or why there is none. It is looked for once in a process."""
    return load(LIBRARY, SOURCES)


def load(path: Path, sources: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library at ``path`` if it fits this code and its ``sources``, or why it does not."""
    if not path.is_file():
        return None, f"it was not built (no C compiler at installation?); {REBUILD}"
    try:
        found = ctypes.CDLL(str(path))
        _declare(found)
    except (OSError, AttributeError) as error:
        return None, f"{path} does not load ({error}); {REBUILD}"
    if found.ar_abi() != ABI:
        return None, f"{path} has the interface {found.ar_abi()} and {ABI} is needed; {REBUILD}"
    if sources.is_dir() and found.ar_sources().decode() != sources_hash(sources):
        return None, f"{path} is older than its sources; {REBUILD}"
    wanted = os.environ.get(LEVEL)
    if wanted:
        if wanted not in LEVELS:
            return None, f"{LEVEL}={wanted} is none of {', '.join(LEVELS)}"
        found.ar_set_level(LEVELS.index(wanted))
    return found, ""


def _declare(found: ctypes.CDLL) -> None:
    """Tell ctypes the types of the functions that Python calls."""
    matrix, address, number = ctypes.POINTER(Matrix), ctypes.c_void_p, ctypes.c_int
    signatures: dict[str, tuple[list[type], type | None]] = {
        "ar_product_scratch": ([matrix, number], ctypes.c_size_t),
        "ar_product_prepare": ([matrix, address, number, number, address, number, number], None),
        "ar_product": ([matrix, address, number, number, address, address, number, number, number], None),
        "ar_linear": ([matrix, address, number, number, address, address, number], None),
        "ar_set_threads": ([number], None),
        "ar_get_threads": ([], number),
        "ar_level": ([], number),
        "ar_set_level": ([number], number),
        "ar_has_bf16": ([], number),
        "ar_abi": ([], number),
        "ar_sources": ([], ctypes.c_char_p),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, result
