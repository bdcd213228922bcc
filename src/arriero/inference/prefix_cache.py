"""Reuse of what has been computed: full blocks of tokens, found again by the tokens before and in them."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from arriero.inference.kv_pool import BLOCK, KVPool


@dataclass(frozen=True, eq=False)
class _Entry:
    """A cached block. ``node`` is its number as a parent, never used again for another."""

    node: int
    key: tuple[int, tuple[int, ...]]
    block: int


class PrefixCache:
    """Gives out the pool's blocks, and keeps full ones for others with the same beginning.

    A block is known by its parent and its own tokens, so a chain of them stands for one whole prefix. The table hashes
    that pair and compares it token by token, so that two prefixes never pass for each other. What was computed with
    different weights (an adapter's) starts from different roots, which a salt tells apart.

    The cache is one of the owners of each of its blocks. Those that nobody else owns are the reserve that
    :meth:`allocate` takes from, the longest unused first. Whoever uses a block uses all those before it and gives back
    the last one first, so a block leaves before its parent.

    Args:
        enabled: without it nothing is kept.
    """

    def __init__(self, pool: KVPool, enabled: bool = True) -> None:
        self.pool, self.enabled = pool, enabled
        self._nodes = itertools.count(1)
        self._roots: dict[bytes, int] = {}
        self._table: dict[tuple[int, tuple[int, ...]], _Entry] = {}
        self._by_block: dict[int, _Entry] = {}
        self._unused: OrderedDict[int, _Entry] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that :meth:`allocate` could give now."""
        return self.pool.free + len(self._unused)

    @property
    def blocks(self) -> list[int]:
        """The blocks of which the cache is an owner."""
        return list(self._by_block)

    @property
    def in_use(self) -> int:
        """Blocks that sequences own."""
        return self.pool.used - len(self._unused)

    # ------------------------------------------------------------ blocks in and out

    def allocate(self, count: int, after: int | None = None) -> list[int] | None:
        """``count`` blocks for one owner, or None where there are fewer; see :meth:`KVPool.allocate`."""
        if count > self.available:
            return None
        while self.pool.free < count:
            _, entry = self._unused.popitem(last=False)
            self._drop(entry)
        return self.pool.allocate(count, after)

    def release(self, blocks: Sequence[int]) -> None:
        """A sequence gives its blocks back, in their order in it."""
        self.pool.release(reversed(blocks))
        for block in reversed(blocks):
            entry = self._by_block.get(block)
            if entry is not None and self.pool.references(block) == 1:
                self._unused[block] = entry

    # ------------------------------------------------------------ prefixes

    def root(self, salt: bytes = b"") -> int:
        """The node before the first token."""
        if salt not in self._roots:
            self._roots[salt] = next(self._nodes)
        return self._roots[salt]

    def match(self, ids: Sequence[int], salt: bytes = b"") -> tuple[list[int], int]:
        """The cached blocks that ``ids`` begin with, and the node of the last. The caller is then an owner of them.

        At least one token is left over, because a model must be run to give anything.
        """
        node, blocks = self.root(salt), []
        for start in range(0, (len(ids) - 1) // BLOCK * BLOCK, BLOCK):
            entry = self._table.get((node, tuple(ids[start : start + BLOCK])))
            if entry is None:
                break
            node = entry.node
            blocks.append(entry.block)
        self._own(blocks)
        return blocks, node

    def insert(self, parent: int, tokens: Sequence[int], block: int) -> tuple[int, int]:
        """Keep a full block that the caller owns; gives its node, and the block that the caller owns from now on.

        That is another one where the same tokens are kept already: the caller's own is given back for it.
        """
        if not self.enabled:
            return parent, block
        key = (parent, tuple(tokens))
        found = self._table.get(key)
        if found is None:
            entry = _Entry(next(self._nodes), key, block)
            self._table[key] = self._by_block[block] = entry
            self.pool.share([block])
            return entry.node, block
        if found.block != block:
            self._own([found.block])
            self.release([block])
        return found.node, found.block

    def clear(self) -> None:
        """Forget everything; what still runs adds nothing that could be found again."""
        self._roots.clear()
        for entry in list(self._by_block.values()):
            self._drop(entry)
        self._unused.clear()

    def _own(self, blocks: Sequence[int]) -> None:
        self.pool.share(blocks)
        for block in blocks:
            self._unused.pop(block, None)

    def _drop(self, entry: _Entry) -> None:
        del self._table[entry.key]
        del self._by_block[entry.block]
        self.pool.release([entry.block])
