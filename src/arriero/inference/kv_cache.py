"""Keys and values of the running requests: one pool, a row per request, and the two ways to attend over it.

The pool is a fixed number of token places, seen as rows of equal length. The row length follows the longest
running request, so one request may use the whole pool and many short ones share it. Each row is contiguous,
which attention on a CPU needs to be fast. Rows in use are kept at the front, so a decode step attends over a
slice and copies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from arriero.models.layers.masks import AttentionRule

BLOCK = 64
"""Row lengths are multiples of this many tokens."""


def round_up(tokens: int) -> int:
    """The row length that ``tokens`` tokens need."""
    return -(-tokens // BLOCK) * BLOCK


@dataclass(eq=False)
class Lease:
    """A request's place in the pool. ``row`` changes when the pool closes a gap; ``length`` tokens are stored."""

    row: int
    reserved: int
    length: int = 0


@dataclass(frozen=True)
class CacheShape:
    """What a token needs: layers, key-value heads, width of a head, and the element type."""

    n_layers: int
    n_kv_heads: int
    head_dim: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of one token over all layers, in bytes."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * self.dtype.itemsize


@dataclass
class KeyValuePool:
    """Owner of all keys and values.

    Args:
        max_tokens: token places in the pool. max_rows: most requests at a time.
    """

    shape: CacheShape
    max_tokens: int
    max_rows: int
    _leases: list[Lease] = field(default_factory=list, init=False)
    _columns: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.max_tokens = round_up(self.max_tokens)
        width = self.shape.n_kv_heads * self.shape.head_dim
        # zeros come from the system untouched, so memory is only used for the places that are written
        self._storage = torch.zeros(
            (self.shape.n_layers, 2, self.max_tokens * width),
            dtype=self.shape.dtype,
            device=self.shape.device,
        )
        self._set_columns(self.max_tokens)

    @property
    def used(self) -> int:
        """Rows in use."""
        return len(self._leases)

    @property
    def bytes(self) -> int:
        """Memory of the whole pool, in bytes."""
        return self.max_tokens * self.shape.bytes_per_token

    def reserve(self, tokens: int) -> Lease | None:
        """Places for ``tokens`` tokens (prompt and answer together), or None while others need the room."""
        if self.used >= self.max_rows:
            return None
        columns = self._columns
        if round_up(tokens) > columns or (self.used + 1) * columns > self.max_tokens:
            columns = round_up(max([tokens, *(lease.reserved for lease in self._leases)]))
        if (self.used + 1) * columns > self.max_tokens:
            return None
        if columns != self._columns:
            self._move_to(columns)
        lease = Lease(self.used, tokens)
        self._leases.append(lease)
        return lease

    def release(self, lease: Lease) -> None:
        """Give the places back; the last row moves into the gap."""
        last = self._leases.pop()
        if last is lease:
            return
        for keys, values in self._layers:
            for rows in (keys, values):
                rows[lease.row, :, : last.length] = rows[last.row, :, : last.length]
        last.row = lease.row
        self._leases[lease.row] = last

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, each ``[rows, Hkv, columns, Dh]``."""
        return self._layers[index]

    def _set_columns(self, columns: int) -> None:
        rows = self.max_tokens // columns
        shape = (rows, self.shape.n_kv_heads, columns, self.shape.head_dim)
        size = rows * self.shape.n_kv_heads * columns * self.shape.head_dim
        self._columns = columns
        self._layers = [
            (self._storage[i, 0, :size].view(shape), self._storage[i, 1, :size].view(shape))
            for i in range(self.shape.n_layers)
        ]

    def _move_to(self, columns: int) -> None:
        """Change the row length, keeping what the rows in use hold."""
        old = self._layers
        self._set_columns(columns)
        longest = max((lease.length for lease in self._leases), default=0)
        for before, after in zip(old, self._layers, strict=True):
            for source, target in zip(before, after, strict=True):
                kept = source[: self.used, :, :longest].clone()  # the two views overlap
                target[: self.used, :, :longest] = kept


class PrefillView:
    """Attention of a run of new prompt tokens of one request: over what is stored, and causally over themselves."""

    def __init__(self, pool: KeyValuePool, lease: Lease, count: int) -> None:
        self._pool, self._lease, self._start, self._stop = pool, lease, lease.length, lease.length + count
        self._mask: Tensor | None = None
        self._ruled: Tensor | None = None
        if self._start:
            self._mask = torch.ones(count, self._stop, dtype=torch.bool, device=pool.shape.device).tril(
                self._start
            )

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        """Store ``k, v [1,Hkv,T,Dh]`` and attend with ``q [1,H,T,Dh]``; gives ``[1,H,T,Dh]``."""
        mask = self._mask if rule is None else self._rule_mask(rule, q.dtype)
        keys, values = self._pool.layer(layer)
        row = self._lease.row
        keys[row, :, self._start : self._stop] = k[0]
        values[row, :, self._start : self._stop] = v[0]
        return F.scaled_dot_product_attention(
            q,
            keys[row : row + 1, :, : self._stop],
            values[row : row + 1, :, : self._stop],
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=q.shape[1] != k.shape[1],
        )

    def _rule_mask(self, rule: AttentionRule, dtype: torch.dtype) -> Tensor:
        """Additive mask [1 or H, T, stored]; made once where every layer of the model has the same rule."""
        if self._ruled is None or not rule.shared:
            device = self._pool.shape.device
            places = torch.arange(self._stop, device=device)
            distance = places[self._start :, None] - places[None, :]
            self._ruled = rule.apply(distance >= 0, distance, dtype)
        return self._ruled


class DecodeView:
    """Attention of one new token for each of several requests."""

    def __init__(self, pool: KeyValuePool, leases: list[Lease]) -> None:
        self._pool = pool
        rows = [lease.row for lease in leases]
        lengths = [lease.length for lease in leases]
        device = pool.shape.device
        self._longest = max(lengths) + 1
        self._rows = torch.tensor(rows, device=device)
        self._places = torch.tensor(lengths, device=device)
        in_order = rows == list(range(rows[0], rows[0] + len(rows)))
        self._slice = slice(rows[0], rows[0] + len(rows)) if in_order else None
        self._mask: Tensor | None = None
        self._ruled: Tensor | None = None
        if min(lengths) != max(lengths):
            beyond = torch.arange(self._longest, device=device) > self._places[:, None]
            mask = torch.zeros(beyond.shape, dtype=pool.shape.dtype, device=device)
            self._mask = mask.masked_fill_(beyond, float("-inf"))[:, None, None, :]

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        """Store ``k, v [B,Hkv,1,Dh]`` and attend with ``q [B,H,1,Dh]``; gives ``[B,H,1,Dh]``.

        The query heads that share a key-value head are folded into the query axis: the same product, without
        repeating keys and values.
        """
        keys, values = self._pool.layer(layer)
        keys[self._rows, :, self._places] = k[:, :, 0]
        values[self._rows, :, self._places] = v[:, :, 0]
        picked = self._slice if self._slice is not None else self._rows
        batch, heads, _, width = q.shape
        group = heads // k.shape[1]
        out = F.scaled_dot_product_attention(
            q.reshape(batch, k.shape[1], group, width),
            keys[picked, :, : self._longest],
            values[picked, :, : self._longest],
            attn_mask=self._mask if rule is None else self._rule_mask(rule, q.dtype, group),
        )
        return out.reshape(batch, heads, 1, width)

    def _rule_mask(self, rule: AttentionRule, dtype: torch.dtype, group: int) -> Tensor:
        """Additive mask [B, 1 or Hkv, 1 or group, stored]; made once a step where all layers have the same rule."""
        if self._ruled is None or not rule.shared:
            places = torch.arange(self._longest, device=self._places.device)
            distance = (self._places[:, None] - places)[:, None, :]
            mask = rule.apply(distance >= 0, distance, dtype)
            self._ruled = mask if mask.shape[1] == 1 else mask.squeeze(2).unflatten(1, (-1, group))
        return self._ruled
