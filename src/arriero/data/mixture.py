"""Mixtures of sources: which share each has, and in which order their samples come.

The order is a pure function of the seed and the position, like that of a single source: a resumed run, and one on more
processes, sees the same samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from importlib.resources import files

import numpy as np
import yaml

from arriero.errors import ArrieroError, did_you_mean

LEAST_SHARE = 1e-6
_BLOCK = 1024
"""Samples within which every source has its share, but for rounding, where the shares are not very uneven."""
_LEAST_IN_BLOCK = 4


def preset_weights(name: str) -> dict[str, float]:
    """Weights by source of a published mixture.

    Raises:
        ArrieroError: there is no such preset.
    """
    presets = yaml.safe_load(files("arriero.data").joinpath("mixtures.yaml").read_text(encoding="utf-8"))
    if name not in presets:
        raise ArrieroError(f"there is no mixture '{name}'{did_you_mean(name, presets)}")
    return {source: float(weight) for source, weight in presets[name]["weights"].items()}


def shares_by_weight(weights: Mapping[str, float], sources: Sequence[str]) -> list[float]:
    """Shares in the order of ``sources``, in proportion to the weights.

    Raises:
        ArrieroError: a weight is missing, or is for no source.
    """
    for name in weights:
        if name not in sources:
            raise ArrieroError(f"'{name}' has a weight but is no source{did_you_mean(name, sources)}")
    missing = [name for name in sources if name not in weights]
    if missing:
        raise ArrieroError(f"source '{missing[0]}' has no weight; leave the source out, or give it one")
    return normalised([weights[name] for name in sources], sources)


def normalised(parts: Sequence[float], sources: Sequence[str]) -> list[float]:
    """Shares that add up to 1.

    Raises:
        ArrieroError: a source would get (next to) nothing.
    """
    total = math.fsum(parts)
    for name, part in zip(sources, parts, strict=True):
        if not part > 0 or part / total < LEAST_SHARE:
            raise ArrieroError(
                f"source '{name}' has a share of {part / total if total else 0:g}; leave it out"
            )
    return [part / total for part in parts]


class MixedOrder:
    """Endless sequence of samples from several sources, each epoch of a source in its own order.

    A sample is known by one number: those of source 0 come first, then those of source 1, and so on.

    Args:
        sizes: samples of each source.
        shares: of each source, adding up to 1.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], seed: int) -> None:
        self._sizes = list(sizes)
        self._first = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        self._bounds = _cumulative(shares)
        self._block = max(_BLOCK, math.ceil(_LEAST_IN_BLOCK / min(shares)))
        self._seed = seed
        self._pattern: tuple[int, np.ndarray] | None = None
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def take(self, start: int, stop: int) -> list[int]:
        """Sample numbers at the positions ``start`` to ``stop`` (exclusive)."""
        found: list[int] = []
        while start < stop:
            number, first = divmod(start, self._block)
            last = min(self._block, first + stop - start)
            found += self._within(number, first, last)
            start += last - first
        return found

    def before(self, position: int) -> list[int]:
        """Samples that each source has given before ``position``."""
        number, first = divmod(position, self._block)
        given = self._at(number)
        pattern = self._sources(number)[:first]
        return [count + int((pattern == source).sum()) for source, count in enumerate(given)]

    def _within(self, number: int, first: int, last: int) -> list[int]:
        pattern = self._sources(number)
        found = np.empty(last - first, dtype=np.int64)
        for source, count in enumerate(self._at(number)):
            places = np.flatnonzero(pattern[first:last] == source)
            begin = count + int((pattern[:first] == source).sum())
            found[places] = self._samples(source, begin, len(places))
        return found.tolist()

    def _samples(self, source: int, begin: int, count: int) -> np.ndarray:
        """The samples of a source that it gives after ``begin`` others."""
        parts, size = [np.empty(0, dtype=np.int64)], self._sizes[source]
        while count:
            epoch, first = divmod(begin, size)
            last = min(size, first + count)
            parts.append(self._order(source, epoch)[first:last] + self._first[source])
            begin, count = begin + last - first, count - (last - first)
        return np.concatenate(parts)

    def _order(self, source: int, epoch: int) -> np.ndarray:
        held = self._orders.get(source)
        if held is None or held[0] != epoch:
            held = epoch, _permutation(self._sizes[source], self._seed, source + 1, epoch)
            self._orders[source] = held
        return held[1]

    def _at(self, number: int) -> list[int]:
        """Samples of each source before block ``number``."""
        ends = [math.floor(bound * number * self._block + Fraction(1, 2)) for bound in self._bounds]
        return [after - before for before, after in itertools.pairwise(ends)]

    def _sources(self, number: int) -> np.ndarray:
        """The source of each sample of a block, int64 [block]."""
        if self._pattern is None or self._pattern[0] != number:
            counts = [b - a for a, b in zip(self._at(number), self._at(number + 1), strict=True)]
            sources = np.repeat(np.arange(len(counts)), counts)
            self._pattern = number, sources[_permutation(self._block, self._seed, 0, number)]
        return self._pattern[1]


def _cumulative(shares: Sequence[float]) -> list[Fraction]:
    """0, the first share, the first two, ... 1, exactly."""
    exact = [Fraction(share) for share in shares]
    total = sum(exact)
    bounds = [Fraction(0)]
    for share in exact:
        bounds.append(bounds[-1] + share / total)
    return bounds


def _permutation(n: int, seed: int, stream: int, number: int) -> np.ndarray:
    """A random order of 0..n-1 from the raw stream of Philox4x64-10; ``stream`` 0 is that of the blocks."""
    key = np.array([seed + (stream << 32), number], dtype=np.uint64)
    # the counter keeps these streams apart from those of a single source's order, which start at 0
    generator = np.random.Philox(key=key, counter=np.array([0, 0, 0, 1], dtype=np.uint64))
    return np.argsort(generator.random_raw(n), kind="stable")
