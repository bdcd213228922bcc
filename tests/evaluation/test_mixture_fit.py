from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.evaluation.mixture_fit import (
    MixtureLaw,
    best_shares,
    bootstrap_mixture,
    fewest_runs,
    fit_mixture,
    left_out_errors,
)


def made(seed: int, sources: int, runs: int, noise: float = 0.0) -> tuple[MixtureLaw, np.ndarray, np.ndarray]:
    """A law, and runs that follow it: a source's own share lowers its loss most."""
    rng = np.random.default_rng(seed)
    slope = rng.uniform(-0.4, 0.8, (sources, sources)) - 1.5 * np.eye(sources)
    law = MixtureLaw(rng.uniform(1.0, 2.0, sources), slope)
    shares = rng.dirichlet(np.ones(sources), runs)
    return law, shares, law.losses(shares) + noise * rng.standard_normal((runs, sources))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_a_law_is_found_again(seed: int, sources: int) -> None:
    """Other shares are predicted, which is what counts: floor and slope trade off against each other."""
    law, shares, losses = made(seed, sources, 4 * sources + 4)
    found = fit_mixture(shares, losses)
    others = np.random.default_rng(seed + 1).dirichlet(np.ones(sources), 50)
    assert np.abs(found.losses(others) - law.losses(others)).max() < 0.02


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4), st.booleans())
def test_no_shares_on_a_grid_are_better(seed: int, sources: int, bounded: bool) -> None:
    law, _, _ = made(seed, sources, 8)
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 1, sources)
    low = np.full(sources, 0.05 if bounded else 0.0)
    high = np.full(sources, 0.7 if bounded else 1.0)
    best = best_shares(law, weights, low, high)
    assert best.sum() == pytest.approx(1)
    assert (best >= low - 1e-9).all()
    assert (best <= high + 1e-9).all()
    steps = np.linspace(0, 1, 21)
    grid = np.array([s for s in itertools.product(steps, repeat=sources) if abs(sum(s) - 1) < 1e-9])
    grid = grid[((grid >= low - 1e-9) & (grid <= high + 1e-9)).all(axis=1)]
    assert weights @ law.losses(best) <= (law.losses(grid) @ weights).min() + 1e-6


def test_the_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """80 % bands at mixtures that were not tried, over 30 laws with noise."""
    inside, total = 0, 0
    for seed in range(30):
        law, shares, losses = made(seed, 3, 14, noise=0.01)
        found = fit_mixture(shares, losses)
        drawn = bootstrap_mixture(found, shares, losses, 60, seed)
        others = np.random.default_rng(seed + 99).dirichlet(np.ones(3) * 3, 5)
        low, high = np.quantile([one.losses(others) for one in drawn], [0.1, 0.9], axis=0)
        truth = law.losses(others)
        inside += int(((low <= truth) & (truth <= high)).sum())
        total += truth.size
    assert 0.75 < inside / total < 0.99


def test_draws_depend_on_the_seed_alone() -> None:
    law, shares, losses = made(1, 3, 9, noise=0.02)
    one, same, other = (bootstrap_mixture(law, shares, losses, 3, seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a.slope, b.slope) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0].slope, other[0].slope)


def test_runs_left_out_are_predicted() -> None:
    _, shares, losses = made(3, 3, 12)
    errors = left_out_errors(shares, losses)
    assert errors is not None
    assert np.abs(errors).max() < 0.1
    assert left_out_errors(shares[:5], losses[:5]) is None


def test_what_cannot_tell_a_law_is_refused() -> None:
    _, shares, losses = made(1, 3, 9)
    with pytest.raises(ArrieroError, match="train at least 5 proxies"):
        fit_mixture(shares[:4], losses[:4])
    assert fewest_runs(3) == 5
    alike = np.tile(shares[:1], (9, 1))
    with pytest.raises(ArrieroError, match="too much alike"):
        fit_mixture(alike, losses)
    law = fit_mixture(shares, losses)
    with pytest.raises(ArrieroError, match="within the bounds"):
        best_shares(law, np.ones(3), np.full(3, 0.5), np.ones(3))
