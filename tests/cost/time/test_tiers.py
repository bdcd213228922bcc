from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.cost.time.examples import ordinary

from arriero.cost.hardware import find
from arriero.cost.time import TIERS, prior
from arriero.cost.time.coefficients import NAMES, datasheet
from arriero.cost.time.tiers import banded


def test_tiers_widen_from_ones_own_run_to_hearsay() -> None:
    assert [tier.letter for tier in TIERS.values()] == list("ABCDE")
    spreads = [tier.spread for tier in TIERS.values()]
    assert spreads == sorted(spreads)


def test_the_band_is_the_tiers() -> None:
    found = banded(10.0, replace(ordinary(), tier="same class"))
    assert (found.low, found.value, found.high) == pytest.approx((10 / 1.2, 10, 12))
    assert "tier C" in found.source
    assert found.basis == "modelled"


def test_a_fit_that_scatters_more_than_its_tier_has_a_wider_band() -> None:
    assert banded(10.0, replace(ordinary(), tier="calibrated", spread=0.3)).high == pytest.approx(
        10 * (1 + 1.28 * 0.3)
    )
    assert banded(10.0, replace(ordinary(), tier="calibrated", spread=0.01)).high == pytest.approx(11)


def test_an_unknown_time_says_what_is_missing() -> None:
    found = banded(math.nan, datasheet(find("V100")))
    assert not found.known
    assert "bf16 peak of V100" in found.source


def test_devices_of_a_class_are_corrected_by_its_runs() -> None:
    for name in ("A100-40GB", "A100-80GB", "H100", "H200"):
        assert prior(find(name)).tier == "same class"
        assert not np.array_equal(prior(find(name)).values, datasheet(find(name)).values)
    for name in ("B200", "L4", "A100 PCIe", "RTX 4090", "MI300X"):
        assert prior(find(name)).tier == "datasheet"


def test_fp32_runs_at_the_fp32_peak() -> None:
    ratio = datasheet(find("A100-80GB"), "fp32").of("products") / datasheet(find("A100-80GB")).of("products")
    assert ratio == pytest.approx(312 / 19.5)
    assert prior(find("A100-80GB"), "fp32").tier == "datasheet"


def test_a_network_of_ones_own_replaces_the_typical_one() -> None:
    slow = find("H100")
    slow = replace(slow, figures={**slow.figures, "inter_gb_s": 12.5e9})
    index = NAMES.index("network")
    assert datasheet(slow).values[index] == pytest.approx(4 * datasheet(find("H100")).values[index])
