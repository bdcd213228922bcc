"""How sure a plan can be of the length of held-out text that is not drawn yet."""

from __future__ import annotations

import numpy as np

from arriero.cost.device import DeviceProfile
from arriero.evaluation.plan import length_doubt, timed


def test_four_draws_in_five_lie_within_the_doubt() -> None:
    draw = np.random.default_rng(0)
    for documents in (30, 114, 1000):
        counts = draw.poisson(documents, 4000)
        tokens = np.array([draw.exponential(600.0, count).sum() for count in counts])
        inside = np.abs(tokens / (600.0 * documents) - 1) <= length_doubt(documents)
        assert 0.77 <= inside.mean() <= 0.83


def test_the_doubt_widens_the_band(profile: DeviceProfile) -> None:
    sure, unsure = timed(10.0, profile), timed(10.0, profile, length_doubt(114))
    assert unsure.value == sure.value
    assert unsure.low < sure.low < sure.high < unsure.high
