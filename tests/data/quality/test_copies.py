"""How many copies of a document there are, and which bucket holds it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.data.quality.copies import copies
from arriero.data.quality.settings import QualitySettings
from arriero.data.quality.spread import mean_epochs, spread_of

EPOCHS = st.floats(0, 8, allow_nan=False)


@given(st.text(), EPOCHS, EPOCHS, st.integers(0, 1 << 40))
def test_copies_are_next_to_the_epochs_and_rise_with_them(
    id: str, one: float, other: float, seed: int
) -> None:
    low, high = sorted((one, other))
    assert math.floor(low) <= copies(id, low, seed) <= math.ceil(low)
    assert copies(id, low, seed) <= copies(id, high, seed)
    assert copies(id, math.floor(low), seed) == math.floor(low)


@settings(max_examples=12, deadline=None)
@given(st.floats(0.02, 4), st.integers(0, 1 << 32))
def test_the_mean_is_what_was_asked_for(epochs: float, seed: int) -> None:
    n = 4000
    found = [copies(f"web:pages.jsonl:{number}", epochs, seed) for number in range(n)]
    rest = epochs - math.floor(epochs)
    deviation = math.sqrt(n * rest * (1 - rest))
    assert abs(sum(found) - n * epochs) <= 5.5 * deviation + 1e-6


def test_seeds_draw_apart() -> None:
    ids = [str(n) for n in range(2000)]
    drawn = [[copies(id, 0.5, seed) for id in ids] for seed in (0, 1)]
    same = sum(a == b for a, b in zip(*drawn, strict=True))
    assert 850 < same < 1150


BORDERS = st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=5, unique=True)


@given(BORDERS, st.booleans(), st.lists(st.one_of(st.floats(-120, 120, width=32), st.just(math.nan))))
def test_the_first_bucket_that_holds_a_figure(borders: list[float], least: bool, values: list[float]) -> None:
    borders = sorted(borders, reverse=least)
    key = "at_least" if least else "at_most"
    made = QualitySettings(figure="x", buckets=[{key: border, "epochs": 1} for border in borders])
    for value, bucket in zip(values, made.buckets_of(values), strict=True):
        holding = [n for n, border in enumerate(borders) if (value >= border if least else value <= border)]
        wanted = len(borders) + 1 if math.isnan(value) else holding[0] if holding else len(borders)
        assert bucket == wanted == made.bucket_of(value)


def test_a_border_is_compared_as_the_ledger_holds_figures() -> None:
    made = QualitySettings(figure="x", buckets=[{"at_least": 0.9, "epochs": 2}])
    assert made.bucket_of(float(np.float32(0.9))) == 0  # which is below 0.9 in float64


@pytest.mark.parametrize(
    ("buckets", "more", "what"),
    [
        ([{"epochs": 1}], {}, "one border"),
        ([{"at_least": 1, "at_most": 2, "epochs": 1}], {}, "one border"),
        ([{"at_least": 1, "epochs": 1}, {"at_least": 1, "epochs": 0}], {}, "should fall"),
        ([{"at_most": 1, "epochs": 1}, {"at_most": 0.5, "epochs": 0}], {}, "should rise"),
        (
            [{"at_most": 1, "epochs": 1}, {"at_least": 5, "epochs": 0}],
            {},
            "all by at_least, or all by at_most",
        ),
        ([{"at_least": 1, "epochs": 0}], {"otherwise": 0, "unmeasured": 0}, "no document would be taken"),
        ([{"at_least": 1, "epochs": -1}], {}, "greater than or equal to 0"),
        ([{"at_least": 1, "epochs": 65}], {}, "less than or equal to 64"),
        ([{"at_least": math.nan, "epochs": 1}], {}, "finite"),
        ([], {}, "at least 1 item"),
        ([{"above": 1, "epochs": 1}], {}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense(buckets: list, more: dict, what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        QualitySettings(figure="x", buckets=buckets, **more)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.floats(0, 1, width=32), st.just(math.nan)), st.integers(1, 1000)),
        min_size=1, max_size=200,
    ),
    st.floats(0.1, 0.9),
    EPOCHS,
)  # fmt: skip
def test_the_foreseen_mean_is_the_true_one_but_for_the_grid(
    rows: list[tuple[float, int]], border: float, epochs: float
) -> None:
    made = QualitySettings(figure="x", buckets=[{"at_least": border, "epochs": epochs}], otherwise=0.5)
    values, sizes = (np.array(one, float) for one in zip(*rows, strict=True))
    assume(epochs > 0)
    wanted = np.average(np.array(made.epochs)[made.buckets_of(values)], weights=sizes)
    found = mean_epochs(made, spread_of(values, sizes))
    assert abs(found - wanted) <= abs(epochs - 0.5) / 40 + 2e-3 * max(made.epochs)
