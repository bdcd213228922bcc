"""The facts kernel (``csrc/text.h``) by ctypes: arrays in, arrays out."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from arriero.native import library

T = TypeVar("T")
LINE = np.dtype(
    [
        ("start", np.int64), ("end", np.int64), ("hash", np.uint64), ("words", np.int32), ("longest_word", np.int32),
        ("sentences", np.int32), ("letters", np.int32), ("upper", np.int32), ("digits", np.int32),
        ("flags", np.uint32), ("c4_sentences", np.int32),
    ]
)  # fmt: skip
"""``ar_text_line``."""


@dataclass(frozen=True)
class TextTables:
    """What the kernel knows of characters and words; ``ar_text_tables`` says what each is."""

    pages: NDArray[np.uint16]
    flags: NDArray[np.uint32]
    fold: NDArray[np.int32]
    lower: NDArray[np.int32]
    special_keys: NDArray[np.uint64]
    special_values: NDArray[np.uint32]
    special_filter: NDArray[np.uint64]
    special_bytes: int


@dataclass(frozen=True)
class TextSettings:
    """``ar_text_settings``; all arrays are uint64."""

    stop_words: NDArray[np.uint64]
    shingle_factors: NDArray[np.uint64]
    factors: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    by_space: bool


class _Tables(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("pages", "flags", "fold", "lower")),
        *((f"special_{name}", ctypes.c_void_p) for name in ("keys", "values", "filter")),
        ("special_mask", ctypes.c_uint64),
        ("special_bytes", ctypes.c_uint64),
    ]


class _Settings(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in ("tables", "stop_words", "shingle_factors", "factors", "offsets")
        ),
        *((name, ctypes.c_int32) for name in ("n_stop_words", "by_space", "shingle_words", "n_hashes")),
    ]


class _Result(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("count", ctypes.c_size_t)]


class TextKernel:
    """The compiled kernel with one set of settings. Text is UTF-8; other bytes are safe, but their figures mean little.

    Raises:
        ArrieroError: there is no library. Every method: MemoryError where memory does not suffice.
    """

    def __init__(self, tables: TextTables, settings: TextSettings) -> None:
        self._library = _library()
        self._kept = [
            np.ascontiguousarray(array) for array in vars(tables).values() if isinstance(array, np.ndarray)
        ]
        self._kept += [
            np.ascontiguousarray(array) for array in vars(settings).values() if isinstance(array, np.ndarray)
        ]
        places = [array.ctypes.data for array in self._kept]
        self._tables = _Tables(*places[:7], len(tables.special_keys) - 1, tables.special_bytes)
        sizes = (
            len(settings.stop_words),
            settings.by_space,
            len(settings.shingle_factors),
            len(settings.factors),
        )
        self._settings = _Settings(ctypes.addressof(self._tables), *places[7:], *sizes)
        self._reference = ctypes.byref(self._settings)
        self._n_hashes = len(settings.factors)
        self._n_counters = len(counter_names())

    def measure(self, data: bytes) -> tuple[list[int], NDArray[np.uint32], bytes]:
        """Counters by :func:`counter_names`, signature uint32[n_hashes], BLAKE2b-128 of the normalised text."""
        counters = (ctypes.c_int64 * self._n_counters)()
        signature = np.empty(self._n_hashes, np.uint32)
        result = _Result()
        _check(
            self._library.ar_text_measure(
                self._reference, data, len(data), counters, signature.ctypes.data, ctypes.byref(result)
            )
        )
        digest = self._taken(result, 1, lambda copy: hashlib.blake2b(copy, digest_size=16).digest())
        return counters[:], signature, digest

    def normalise(self, data: bytes) -> bytes:
        """The normalised text."""
        return self._call(self._library.ar_text_normalise, data, 1, bytes)

    def signature(self, data: bytes) -> NDArray[np.uint32]:
        """The signature alone: uint32[n_hashes]."""
        signature = np.empty(self._n_hashes, np.uint32)
        _check(self._library.ar_text_signature(self._reference, data, len(data), signature.ctypes.data))
        return signature

    def shingles(self, data: bytes) -> NDArray[np.uint64]:
        """Hashes of the shingles, in order, with repetitions."""
        return self._call(
            self._library.ar_text_shingles, data, 8, lambda copy: np.frombuffer(bytearray(copy), np.uint64)
        )

    def words(self, data: bytes) -> NDArray[np.uint64]:
        """uint64[n, 2]: where each word begins and ends, in bytes."""
        return self._call(
            self._library.ar_text_words,
            data,
            16,
            lambda copy: np.frombuffer(bytearray(copy), np.uint64).reshape(-1, 2),
        )

    def lines(self, data: bytes, paragraphs: bool) -> NDArray[np.void]:
        """Rows of :data:`LINE`; starts and ends are characters."""
        result = _Result()
        _check(
            self._library.ar_text_lines(
                self._reference, data, len(data), int(paragraphs), ctypes.byref(result)
            )
        )
        return self._taken(result, LINE.itemsize, lambda copy: np.frombuffer(bytearray(copy), LINE))

    def _call(self, function: Callable[..., int], data: bytes, size: int, take: Callable[[bytes], T]) -> T:
        result = _Result()
        _check(function(self._reference, data, len(data), ctypes.byref(result)))
        return self._taken(result, size, take)

    def _taken(self, result: _Result, size: int, take: Callable[[bytes], T]) -> T:
        """What ``take`` makes of a copy of the library's memory, which is given back."""
        try:
            return take(ctypes.string_at(result.data, size * result.count) if result.count else b"")
        finally:
            self._library.ar_text_free(ctypes.byref(result))


@cache
def counter_names() -> tuple[str, ...]:
    """Names of the counters that :meth:`TextKernel.measure` gives, in order."""
    names: bytes = _library().ar_text_counter_names()
    return tuple(names.decode().rstrip(",").split(","))


def available() -> bool:
    """True where the kernel can be used."""
    return library.available()


def _library() -> ctypes.CDLL:
    found = library.library()
    address, size, number, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p
    found.ar_text_measure.argtypes = [address, text, size, address, address, address]
    for name in ("normalise", "shingles", "words", "signature"):
        getattr(found, f"ar_text_{name}").argtypes = [address, text, size, address]
    found.ar_text_lines.argtypes = [address, text, size, number, address]
    found.ar_text_free.argtypes, found.ar_text_free.restype = [address], None
    found.ar_text_counter_names.argtypes, found.ar_text_counter_names.restype = [], text
    return found


def _check(status: int) -> None:
    if status:
        raise MemoryError("not enough memory to count the facts of a text")
