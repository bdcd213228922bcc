"""Samples over processes, and sequences over processes: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from arriero.training.objectives.base import UNSCORED, Batch
from arriero.training.objectives.causal import CausalObjective
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.parallel.dealing import Filler, deal
from arriero.training.parallel.sequence import cut_batch, own_places, padded_length


def sft(lengths: list[int]) -> SftObjective:
    draw = np.random.default_rng(sum(lengths))
    return SftObjective([Row(draw.integers(0, 50, n), draw.random(n) < 0.5) for n in lengths])


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=30), size=st.integers(1, 5), of=st.integers(1, 6),
    least=st.integers(1, 4),
)  # fmt: skip
def test_every_sample_goes_to_one_process(lengths: list[int], size: int, of: int, least: int) -> None:
    objective, indices = sft(lengths), list(range(len(lengths)))
    shares = [deal(objective, indices, size, share, of, least) for share in range(of)]
    assert len({len(share) for share in shares}) == 1 and len(shares[0]) >= least
    dealt = [index for share in shares for part in share if not isinstance(part, Filler) for index in part]
    assert sorted(dealt) == indices
    assert all(len(part) <= size for share in shares for part in share)
    numbers = [sum(len(p) for p in share if not isinstance(p, Filler)) for share in shares]
    assert max(numbers) - min(numbers) <= 1


@given(pieces=st.integers(1, 9), of=st.integers(1, 5))
def test_every_place_has_one_process(pieces: int, of: int) -> None:
    length = 2 * of * pieces
    places = [own_places(length, part, of) for part in range(of)]
    assert sorted(torch.cat(places).tolist()) == list(range(length))
    work = [int((p + 1).sum()) for p in places]  # keys that a causal token sees
    assert max(work) == min(work)


def tokens_and_targets(batch: Batch, places: list[int], whole: int) -> set[tuple[int, int, int, int]]:
    """(row, place in the whole sequence, token, target) of everything that is scored."""
    length = batch.ids.shape[1]
    positions = torch.arange(batch.ids.numel()) if batch.positions is None else batch.positions
    found = set()
    for position, target in zip(positions.tolist(), batch.targets.tolist(), strict=True):
        if target != UNSCORED:
            row, column = divmod(position, length)
            item = (row, places[column], int(batch.ids[row, column]), target)
            assert item not in found
            found.add(item)
    return found


def check_cut(batch: Batch, of: int, step: int) -> None:
    whole = padded_length(batch.ids.shape[1], step)
    parts = [cut_batch(batch, part, of, step) for part in range(of)]
    found = [
        tokens_and_targets(cut, own_places(whole, part, of).tolist(), whole) for part, cut in enumerate(parts)
    ]
    together = set().union(*found)
    assert together == tokens_and_targets(batch, list(range(whole)), whole)
    assert sum(map(len, found)) == len(together) == batch.scored == sum(cut.scored for cut in parts)
    assert sum(cut.tokens for cut in parts) == batch.tokens
    assert {tuple(cut.ids.shape) for cut in parts} == {(batch.ids.shape[0], whole // of)}


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    of=st.integers(2, 4),
    more=st.sampled_from([1, 3]),
)
def test_a_cut_batch_of_uneven_rows(lengths: list[int], of: int, more: int) -> None:
    check_cut(sft(lengths).batch(range(len(lengths))), of, 2 * of * more)


class Windows:
    def __len__(self) -> int:
        return 3

    def batch(self, indices: object) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng(0)
        return draw.integers(0, 50, (3, 14)), np.cumsum(draw.random((3, 14)) < 0.2, axis=1)


def test_a_cut_batch_of_windows() -> None:
    batch = CausalObjective(Windows(), 13, document_mask=True).batch([0, 1, 2])
    for of in (2, 3, 4):
        check_cut(batch, of, 2 * of)
    cut = cut_batch(batch, 1, 2, 4)
    assert batch.segments is not None and cut.segments is not None
    assert cut.segments.shape == (3, 16)  # whole, padded: keys are everyone's
    assert (cut.segments[:, 13:] == -1).all() and torch.equal(cut.segments[:, :13], batch.segments)
