"""How a corpus's files are dealt out to the processes that encode them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from arriero.data.execute.settings import ExecutorSettings, cores
from arriero.stage import SplitSpec

POOL_WORTH_BYTES = 16 << 20
"""Text that others must encode while one has the longest file, for their start to pay."""


@dataclass(frozen=True)
class EncodeLoad:
    """Who encodes how much."""

    workers: int
    """Processes that encode; 1: this one, with no other."""
    longest_share: float
    """Share of all text that the process with the most of it encodes, in (0, 1]."""
    cores: int
    """Cores of this machine."""


def encode_load(
    executor: ExecutorSettings, splits: Mapping[str, SplitSpec], passes: Mapping[str, int]
) -> EncodeLoad:
    """Files of a split are taken to be of one size.

    Args:
        splits: what there is to encode.
        passes: how often the files of a split are gone through, by the split's name; 1 where it is not named.
    """
    files = {name: split.files * passes.get(name, 1) for name, split in splits.items()}
    total = sum(split.bytes for split in splits.values())
    longest = max((split.bytes / max(files[name], 1) for name, split in splits.items()), default=0)
    workers = _workers(executor, sum(files.values()), total - longest)
    share = 1.0 if workers == 1 or not total else max(longest / total, 1 / workers)
    return EncodeLoad(workers, share, cores())


def _workers(executor: ExecutorSettings, files: int, beside: float) -> int:
    """No more than files; this process alone where the others would have little to do.

    Args:
        beside: bytes of text beside the longest file.
    """
    asked = executor.workers or cores()
    if executor.shard is not None or executor.kind == "ray":
        return asked
    if executor.kind == "inline" or files < 2 or beside < POOL_WORTH_BYTES:
        return 1
    return min(asked, files)
