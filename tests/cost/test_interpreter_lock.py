"""The switch interval of the interpreter while someone wants the lock soon."""

from __future__ import annotations

import sys

import pytest

from arriero.cost.interpreter_lock import handed_over_soon
from arriero.cost.meter import Meter


def test_the_interval_is_short_until_the_last_one_leaves() -> None:
    usual = sys.getswitchinterval()
    first, second = handed_over_soon(), handed_over_soon()
    first.__enter__()
    short = sys.getswitchinterval()
    assert short < usual / 10
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(short), (
        "the second still wants it, though the first has left"
    )
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_an_error_inside_restores_it() -> None:
    usual = sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError), handed_over_soon():
        _ = 1 / 0
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_an_interval_that_is_shorter_already_is_left() -> None:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with handed_over_soon():
            assert sys.getswitchinterval() == pytest.approx(1e-5)
        assert sys.getswitchinterval() == pytest.approx(1e-5)
    finally:
        sys.setswitchinterval(usual)


def test_a_meter_wants_it_only_for_its_own_thread() -> None:
    usual = sys.getswitchinterval()
    with Meter(background=False):
        assert sys.getswitchinterval() == pytest.approx(usual)
    with Meter():
        assert sys.getswitchinterval() < usual / 10
    assert sys.getswitchinterval() == pytest.approx(usual)
