"""How sure a plan can be of the length of held-out text that is not drawn yet."""

from __future__ import annotations

import math

import numpy as np

from arriero.cost.device import DeviceProfile
from arriero.evaluation.plan import LENGTH_VARIANCE, length_doubt, timed


def test_four_draws_in_five_lie_within_the_doubt() -> None:
    draw = np.random.default_rng(0)
    sigma = math.sqrt(math.log1p(LENGTH_VARIANCE))
    for documents, least, most in ((30, 0.77, 0.9), (114, 0.77, 0.86), (1000, 0.77, 0.83)):
        counts = draw.poisson(documents, 4000)
        lengths = (draw.lognormal(math.log(600.0) - sigma**2 / 2, sigma, count).sum() for count in counts)
        inside = np.abs(np.array(list(lengths)) / (600.0 * documents) - 1) <= length_doubt(documents)
        assert least <= inside.mean() <= most


def test_the_doubt_widens_the_band(profile: DeviceProfile) -> None:
    sure, unsure = timed(10.0, profile), timed(10.0, profile, length_doubt(114))
    assert unsure.value == sure.value
    assert unsure.low < sure.low < sure.high < unsure.high
