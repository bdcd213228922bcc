"""The packed windows of a tokens artifact: of one source, or of several that are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arriero.data.mixture import MixedOrder
from arriero.data.shards import PackedWindows, TokenShards, read_meta


class MixedWindows:
    """Windows of several sources, numbered one source after the other. No window crosses from one to the next.

    Args:
        sources: windows by source.
        shares: of each source, adding up to 1.
        epochs: how often a pass over the mixture takes each source on the average.
    """

    def __init__(self, sources: dict[str, PackedWindows], shares: Sequence[float], epochs: float) -> None:
        self.names = list(sources)
        self._sources = list(sources.values())
        self._shares = list(shares)
        self._sizes = [len(windows) for windows in self._sources]
        self._first = np.concatenate([[0], np.cumsum(self._sizes)])
        self._length = pass_length(self._sizes, epochs)

    def __len__(self) -> int:
        """Windows in one pass over the mixture."""
        return self._length

    def order(self, seed: int) -> MixedOrder:
        """The order in which training sees them."""
        return MixedOrder(self._sizes, self._shares, seed)

    def batch(self, indices: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(ids int64[B, T+1], segments int64[B, T+1]) of several windows."""
        rows = [self._row(int(index)) for index in indices]
        return np.stack([ids for ids, _ in rows]), np.stack([segments for _, segments in rows])

    def _row(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if not 0 <= index < self._first[-1]:
            raise IndexError(f"window {index} of {self._first[-1]}")
        source = int(np.searchsorted(self._first, index, side="right")) - 1
        return self._sources[source][index - int(self._first[source])]


def pass_length(sizes: Sequence[int], epochs: float) -> int:
    """Windows in one pass over a mixture that takes all of its windows ``epochs`` times on the average."""
    return max(1, round(epochs * sum(sizes)))


@dataclass(frozen=True)
class SplitWindows:
    """The windows of a split, and those of each source by itself (of one source: just these)."""

    windows: PackedWindows | MixedWindows
    shards: dict[str, TokenShards]
    by_source: dict[str, PackedWindows]

    @property
    def mixed(self) -> MixedWindows | None:
        return self.windows if isinstance(self.windows, MixedWindows) else None


def open_windows(folder: Path, split: str, context_length: int) -> SplitWindows:
    """The windows of a split of a tokens artifact.

    Sources whose split fills no window are left out, unless there is no other.

    Raises:
        ArrieroError: no shards, no such split, or it does not fill a window.
        DamagedArtifactError: a shard is missing or cut short.
    """
    meta = read_meta(folder)
    whole = TokenShards.open(folder, split)
    if not meta.mixture:
        windows = PackedWindows(whole, context_length)
        return SplitWindows(windows, {"": whole}, {"": windows})
    shards = {
        name: TokenShards(Path(folder), source.splits[split], meta.dtype)
        for name, source in meta.mixture.items()
        if split in source.splits and source.splits[split].tokens > context_length
    }
    if not shards:
        return SplitWindows(PackedWindows(whole, context_length), {"": whole}, {})  # says what is missing
    by_source = {name: PackedWindows(found, context_length) for name, found in shards.items()}
    parts = [meta.mixture[name].share for name in by_source]
    mixed = MixedWindows(by_source, [part / sum(parts) for part in parts], meta.pass_epochs)
    return SplitWindows(mixed, shards, by_source)
