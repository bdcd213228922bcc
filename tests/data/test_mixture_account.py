from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.mixed_windows import pass_length
from arriero.data.mixture import MixedOrder
from arriero.data.mixture_account import account
from arriero.stage import MixedSourceSpec, TokenSplitSpec, TokensSpec


def spec(sizes: dict[str, int], shares: dict[str, float], epochs: float = 1.0) -> TokensSpec:
    splits = {name: {"train": TokenSplitSpec(documents=1, tokens=n, bytes=n)} for name, n in sizes.items()}
    mixture = {name: MixedSourceSpec(share=shares[name], splits=splits[name]) for name in sizes}
    return TokensSpec(vocab_size=300, splits={}, mixture=mixture, pass_epochs=epochs)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(11, 3000), st.floats(0.01, 1)), min_size=2, max_size=5),
    st.sampled_from([0.5, 1.0, 2.3]),
    st.integers(0, 5),
)
def test_it_counts_what_the_order_takes(
    given_sources: list[tuple[int, float]], epochs: float, seed: int
) -> None:
    """Against every window of the pass, taken one by one."""
    names = [f"s{n}" for n in range(len(given_sources))]
    tokens = {name: size for name, (size, _) in zip(names, given_sources, strict=True)}
    total = sum(share for _, share in given_sources)
    shares = {name: share / total for name, (_, share) in zip(names, given_sources, strict=True)}
    found = account(spec(tokens, shares, epochs), "print", 10, seed)
    sizes = [(size - 1) // 10 for size in tokens.values()]
    windows = MixedOrder(sizes, list(shares.values()), seed).take(0, pass_length(sizes, epochs))
    assert found.windows == len(windows)
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    for name, start, size in zip(names, starts, sizes, strict=True):
        own = Counter(window for window in windows if start <= window < start + size)
        source = found.sources[name]
        assert source.taken == 10 * own.total()
        assert source.unique == 10 * len(own)
        assert source.repeated == source.taken - source.unique
        assert source.achieved == pytest.approx(own.total() / len(windows))
        assert source.wasted == tokens[name] - 1 - 10 * size
    assert sum(source.achieved for source in found.sources.values()) == pytest.approx(1)


def test_a_source_that_fills_no_window_is_said_to_be_left_out() -> None:
    found = account(spec({"big": 5000, "tiny": 7}, {"big": 0.5, "tiny": 0.5}), "print", 10, 0)
    assert found.sources["tiny"].achieved == 0
    assert found.sources["big"].achieved == 1
    assert any("tiny: 7 tokens fill no window" in line for line in found.lines())
    nothing = account(spec({"a": 3, "b": 4}, {"a": 0.5, "b": 0.5}), "print", 10, 0)
    assert nothing.windows == 0


def test_copies_within_a_source_are_repeats() -> None:
    """Of 2,001 tokens a quarter stand in second copies of documents."""
    split = {"train": TokenSplitSpec(documents=10, tokens=2001, bytes=9, repeated=500)}
    plain = {"train": TokenSplitSpec(documents=10, tokens=2001, bytes=9)}
    mixture = {
        "copied": MixedSourceSpec(share=0.5, splits=split),
        "new": MixedSourceSpec(share=0.5, splits=plain),
    }
    found = account(TokensSpec(vocab_size=300, splits={}, mixture=mixture, pass_epochs=1.0), "print", 10, 0)
    copied, new = found.sources["copied"], found.sources["new"]
    assert (copied.copies, new.copies) == (500, 0)
    assert copied.unique == pytest.approx(0.75 * min(copied.taken, 2000), rel=1e-3)
    assert new.unique == min(new.taken, 2000)
    assert copied.unique + copied.repeated == copied.taken
