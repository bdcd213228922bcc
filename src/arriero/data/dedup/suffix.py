"""Suffixes of a sequence sorted to a given depth, and with it all spans of that length that occur twice: exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def window_names(tokens: NDArray[np.int64] | NDArray[np.uint64], length: int) -> NDArray[np.int64]:
    """int64[n - length + 1]: a number for the ``length`` tokens from each place; equal numbers, equal tokens.

    The numbers are ranks in the order of the suffixes, compared by their first ``length`` tokens: a suffix array that
    is sorted no deeper than asked, made by prefix doubling (Manber, Myers 1993; naming as in Karp, Miller, Rosenberg
    1972). O(n log n log length) time, about 64 bytes a token.
    """
    if length < 1:
        raise ValueError(f"length should be at least 1, not {length}")
    n = len(tokens)
    if n < length:
        return np.empty(0, np.int64)
    names = np.unique(tokens, return_inverse=True)[1].astype(np.int64)
    reach = 1
    while 2 * reach <= length:
        names = _pair(names[:-reach], names[reach:])
        reach *= 2
    rest = length - reach
    return _pair(names[: len(names) - rest], names[rest:]) if rest else names


def _pair(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks of pairs; both are ranks below the number of tokens, so that a pair fits 64 bits."""
    if not len(first):
        return np.empty(0, np.int64)
    base = int(second.max()) + 1
    found: NDArray[np.int64] = np.unique(first * base + second, return_inverse=True)[1].astype(np.int64)
    return found


def suffix_order(tokens: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The suffix array to depth ``length``: places by the tokens from them; equal ones by place.

    Suffixes shorter than ``length`` end in a token that is less than all others.
    """
    padded = np.concatenate(
        [tokens + 1 - (int(tokens.min()) if len(tokens) else 0), np.zeros(length, np.int64)]
    )
    return np.argsort(window_names(padded, length)[: len(tokens)], kind="stable")
