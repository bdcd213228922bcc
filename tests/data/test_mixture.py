from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.mixture import MixedOrder, normalised, preset_weights, shares_by_weight
from arriero.errors import ArrieroError

SOURCES = st.lists(st.tuples(st.integers(1, 60), st.floats(1e-3, 10.0)), min_size=1, max_size=6)


def order(sources: list[tuple[int, float]], seed: int = 3) -> MixedOrder:
    sizes, weights = zip(*sources, strict=True)
    names = [str(n) for n in range(len(sizes))]
    return MixedOrder(sizes, normalised(weights, names), seed)


def source_of(index: int, sources: list[tuple[int, float]]) -> int:
    return int(np.searchsorted(np.cumsum([size for size, _ in sources]), index, side="right"))


@settings(max_examples=30, deadline=None)
@given(sources=SOURCES, cuts=st.lists(st.integers(0, 6000), min_size=2, max_size=6))
def test_a_run_of_any_pieces_is_the_whole_run(sources: list[tuple[int, float]], cuts: list[int]) -> None:
    cuts = sorted(cuts)
    whole = order(sources).take(cuts[0], cuts[-1])
    pieces = [order(sources).take(a, b) for a, b in itertools.pairwise(cuts)]
    assert whole == [index for piece in pieces for index in piece]
    one = order(sources)
    assert whole == [index for a, b in itertools.pairwise(cuts) for index in one.take(a, b)]


@settings(max_examples=20, deadline=None)
@given(sources=SOURCES, seed=st.integers(0, 2**31 - 1))
def test_every_source_has_its_share_and_every_epoch_all_its_samples(
    sources: list[tuple[int, float]], seed: int
) -> None:
    """Each source's samples come epoch after epoch, every sample once in each."""
    n = 6_000
    made = order(sources, seed)
    found = made.take(0, n)
    total = sum(weight for _, weight in sources)
    first = 0
    for number, (size, weight) in enumerate(sources):
        own = [index - first for index in found if source_of(index, sources) == number]
        # exact at the borders of blocks; within one, a share strays by chance alone
        block = made._block
        assert abs(len(own) - n * weight / total) <= min(block, n) ** 0.5 * 3 + 2
        for epoch in range(len(own) // size):
            assert sorted(own[epoch * size : (epoch + 1) * size]) == list(range(size))
        rest = Counter(own[len(own) // size * size :])
        assert not rest or max(rest.values()) == 1
        first += size


def test_the_shares_are_exact_at_the_borders_of_blocks() -> None:
    made = order([(10, 0.67), (7, 0.15), (5, 0.045), (3, 0.135)])
    for blocks in (1, 3, 50):
        counts = made.before(blocks * made._block)
        assert sum(counts) == blocks * made._block
        wanted = [share * blocks * made._block for share in (0.67, 0.15, 0.045, 0.135)]
        assert np.allclose(counts, wanted, atol=1.0)


def test_seeds_and_epochs_differ() -> None:
    sources = [(50, 1.0), (50, 1.0)]
    assert order(sources, 1).take(0, 200) != order(sources, 2).take(0, 200)
    own = [index for index in order(sources).take(0, 1000) if index < 50]
    assert own[:50] != own[50:100]


def test_a_tiny_share_comes_as_often_as_it_should() -> None:
    made = order([(100, 0.9999), (4, 0.0001)])
    found = made.take(0, 200_000)
    assert 12 <= sum(index >= 100 for index in found) <= 28


def test_presets_and_weights() -> None:
    weights = preset_weights("llama-1")
    assert sum(weights.values()) == pytest.approx(1.0) and weights["wikipedia"] == 0.045
    assert shares_by_weight({"a": 3, "b": 1}, ["b", "a"]) == [0.25, 0.75]
    for name, message in [
        ({"a": 1, "c": 1}, "'c' has a weight but is no source"),
        ({"a": 1}, "'b' has no weight"),
    ]:
        with pytest.raises(ArrieroError, match=message):
            shares_by_weight(name, ["a", "b"])
    with pytest.raises(ArrieroError, match="no mixture 'llama1'"):
        preset_weights("llama1")
    with pytest.raises(ArrieroError, match="has a share of 0; leave it out"):
        shares_by_weight({"a": 1, "b": 0}, ["a", "b"])
