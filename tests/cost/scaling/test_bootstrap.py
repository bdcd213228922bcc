"""Bands: they hold what they say they hold, seeds decide, and nobody is led too far without being told."""

from __future__ import annotations

import numpy as np
import pytest

from arriero.cost.scaling.bootstrap import bootstrap, decades_beyond, predict
from arriero.cost.scaling.fit import fit_law
from arriero.cost.scaling.law import CHINCHILLA, ParametricLaw
from arriero.cost.scaling.runs import Runs
from arriero.errors import ArrieroError

LAW = ParametricLaw(1.5, 60, 300, 0.35, 0.4)


def ladder(noise: float, seed: int) -> Runs:
    sizes, tokens = (axis.ravel() for axis in np.meshgrid([6e4, 1.6e5, 4.3e5, 1.1e6], [1e6, 2e6, 4e6]))
    off = noise * np.random.default_rng(seed).standard_normal(len(sizes))
    return Runs(sizes, tokens, LAW.loss(sizes, tokens) * np.exp(off))


@pytest.mark.slow
def test_intervals_of_small_ladders_hold_the_next_run_as_often_as_they_say() -> None:
    """40 ladders of twelve runs: an 80 % interval should hold about 32 of the next runs."""
    held, random = 0, np.random.default_rng(9)
    for seed in range(1000, 1040):
        bands = bootstrap(fit_law(ladder(0.004, seed)), draws=80, seed=seed)
        made = predict(bands, 2.4e6, 6e6)
        measured = float(LAW.loss(2.4e6, 6e6)) * np.exp(0.004 * random.standard_normal())
        held += made.low <= measured <= made.high
    assert 26 <= held <= 38


def test_intervals_are_ordered_reproducible_and_grow_with_confidence_and_distance() -> None:
    found = fit_law(ladder(0.004, 1))
    one, again, other = (bootstrap(found, draws=300, seed=seed) for seed in (1, 1, 2))
    near = predict(one, 2.4e6, 4e6)
    assert near == predict(again, 2.4e6, 4e6) and near != predict(other, 2.4e6, 4e6)
    assert (
        near.model.loss is not None
        and near.low <= near.law_low <= near.model.loss <= near.law_high <= near.high
    )
    wide = predict(one, 2.4e6, 4e6, confidence=0.95)
    assert wide.low < near.low and wide.high > near.high
    far = predict(one, 1e7, 2e7)
    assert far.high - far.low > near.high - near.low
    for name, (low, high) in one.parameters().items():
        value = found.law.size_exponent if name == "size_exponent" else getattr(found.law, name)
        assert low <= value <= high, name


def test_drawing_runs_of_a_large_design_gives_the_published_size_of_band() -> None:
    """Besiroglu et al. give alpha and beta of the 240 runs a standard error of about 0.02."""
    random = np.random.default_rng(0)
    n = np.exp(random.uniform(np.log(5.7e7), np.log(1.6e10), 240))
    d = np.exp(random.uniform(np.log(6e18), np.log(3e21), 240)) / 6 / n
    found = fit_law(Runs(n, d, CHINCHILLA.loss(n, d) * np.exp(0.01 * random.standard_normal(240))))
    bands = bootstrap(found, draws=200)
    assert bands.method == "runs"
    for name in ("alpha", "beta"):
        values = getattr(bands.laws, name)
        assert 0.004 < values.std() < 0.05
        low, high = bands.parameters(0.99)[name]
        assert low < getattr(CHINCHILLA, name) < high
    by_losses = bootstrap(found, draws=200, method="losses")
    assert by_losses.laws.alpha.std() == pytest.approx(bands.laws.alpha.std(), rel=0.6)


def test_far_predictions_are_refused_unless_asked_for_and_then_say_so() -> None:
    bands = bootstrap(fit_law(ladder(0.002, 3)), draws=50)
    assert decades_beyond(bands.fit, 1.1e6, 4e6) == 0 and decades_beyond(bands.fit, 1e4, 1e5) == 0
    assert decades_beyond(bands.fit, 1.1e7, 4e7) == pytest.approx(2)
    assert predict(bands, 1.09e7, 4e7).notes == ()
    with pytest.raises(ArrieroError, match=r"3\.0 decades of FLOP beyond"):
        predict(bands, 1e8, 4e7)
    made = predict(bands, 1e8, 4e7, far=True)
    assert made.decades > 2 and "not whether the law still holds" in made.notes[0]
    lopsided = predict(bands, 1e3, 4e8)
    assert any("100 times more tokens" in note for note in lopsided.notes)
    assert any("60 times fewer parameters" in note for note in lopsided.notes)


def test_senseless_questions_are_refused() -> None:
    found = fit_law(ladder(0.002, 4))
    with pytest.raises(ArrieroError, match="20 or more"):
        bootstrap(found, draws=5)
    with pytest.raises(ArrieroError, match="auto, losses or runs"):
        bootstrap(found, method="pairs")  # type: ignore[arg-type]
    bands = bootstrap(found, draws=30)
    with pytest.raises(ArrieroError, match="above 0"):
        predict(bands, 0, 1e6)
    with pytest.raises(ArrieroError, match="between 0 and 1"):
        predict(bands, 1e6, 1e6, confidence=1.0)
