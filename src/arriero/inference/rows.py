"""One step's work for a model: rows of tokens from many sequences, laid end to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from arriero.errors import ArrieroError
from arriero.inference.kv_pool import BLOCK


@dataclass
class Span:
    """The rows of one sequence within a step: tokens ``stored .. stored + count - 1`` of it.

    Attributes:
        first: the first of its rows. count: how many there are, one after the other.
        stored: tokens of the sequence whose keys and values are in the pool already.
        blocks: its blocks of the pool, in order; token t lies in ``blocks[t // BLOCK]`` at place ``t % BLOCK``. There are
            enough of them for ``stored + count`` tokens; what is beyond is free to overwrite.
        adapter: name of the adapter that these rows go through; None: the model itself.
    """

    first: int
    count: int
    stored: int
    blocks: list[int]
    adapter: str | None = None


@dataclass
class Rows:
    """Token ids and positions of all rows, whose they are, and the rows whose logits are asked for (ascending)."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def add(
        self, ids: list[int], stored: int, blocks: list[int], wanted: list[int], adapter: str | None = None
    ) -> Span:
        """Append a span of ``ids``; ``wanted`` counts within it."""
        span = Span(len(self.ids), len(ids), stored, blocks, adapter)
        self.wanted += [span.first + i for i in wanted]
        self.positions += range(stored, stored + len(ids))
        self.ids += ids
        self.spans.append(span)
        return span


def check_rows(rows: Rows, vocab_size: int, context_length: int) -> None:
    """Kernels read where they are told to, so what they are told must be right.

    Raises:
        ArrieroError: an id or a position that the model does not have, or too few blocks; a bug of the caller.
    """
    if rows.ids and not 0 <= min(rows.ids) <= max(rows.ids) < vocab_size:
        raise ArrieroError(f"a token's id is not one of the model's {vocab_size:,}")
    if rows.positions and not 0 <= min(rows.positions) <= max(rows.positions) < context_length:
        raise ArrieroError(f"a position is not within the model's context of {context_length:,}")
    for span in rows.spans:
        if span.stored + span.count > len(span.blocks) * BLOCK:
            raise ArrieroError(f"{len(span.blocks)} blocks do not hold {span.stored + span.count} tokens")


class Runner(Protocol):
    """Computes rows.

    Attributes:
        name: for people. batch_invariant: a row's logits have the same bits whatever rows are beside it.
    """

    name: str

    @property
    def batch_invariant(self) -> bool: ...

    def run(self, rows: Rows) -> Tensor:
        """Logits of the wanted rows, float32 [len(wanted), vocab_size]; stores the rows' keys and values in the pool.

        There is at least one row; none may be wanted.
        """
        ...

    def refresh(self) -> None:
        """Read the model's weights again after they have changed."""
        ...
