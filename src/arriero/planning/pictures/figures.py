"""Figures as the pictures write them."""

from __future__ import annotations

import math

from arriero.cost.quantity import Quantity
from arriero.cost.units import UNKNOWN, format_quantity, format_value, round_text

_RATES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


_FAR = 1e3
"""So many times the value, the ends of a band are written as powers of ten."""


def finite(value: float | None) -> bool:
    """Whether a figure can be drawn."""
    return value is not None and math.isfinite(value)


def banded(value: float, low: float | None, high: float | None, unit: str) -> str:
    """A figure with its band where it has one: "60 GB (52–66)"; without one as exactly as three digits say."""
    if not math.isfinite(value):
        return UNKNOWN
    if not _usual(value):
        return f"{value:.3g} {unit}"
    if low is None or high is None or not finite(low) or not finite(high) or low >= high:
        return format_value(value, unit)
    low, high = min(low, value), max(high, value)
    if not value / _FAR <= low <= high <= value * _FAR:
        return f"{format_value(value, unit)} ({low:.2g}–{high:.2g} {unit})"
    return format_quantity(Quantity(value=value, low=low, high=high, unit=unit, basis="modelled"))


def figure(value: float, unit: str, digits: int = 3) -> str:
    """A figure in the unit that suits it, however large or small it is."""
    return format_value(value, unit, digits) if _usual(value) else f"{value:.{digits}g} {unit}"


def _usual(value: float) -> bool:
    return value == 0 or 1e-12 <= abs(value) < 1e18


def rate(value: float, unit: str) -> str:
    """A rate with its prefix: "312 TFLOP/s"."""
    if abs(value) >= 1e18:
        return f"{value:.3g} {unit}"
    for size, prefix in _RATES:
        if abs(value) >= size * 0.9995:
            return f"{round_text(value / size)} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def short(value: float, digits: int = 3) -> str:
    """A number as briefly as its digits allow: "1.04 k", "20 B", "7"."""
    if abs(value) >= 1e15:
        return f"{value:.{digits}g}"
    for size, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k"), (1.0, "")):
        if abs(value) >= size * 0.9995:
            return f"{round(value / size, max(0, digits - 1 - math.floor(math.log10(abs(value) / size)))):g}{unit}"
    return round_text(value, digits) if abs(value) > 1e-9 else f"{value:.{digits}g}"


def share(part: float) -> str:
    """A share of one: "37 %", "< 1 %"."""
    if not part:
        return "0 %"
    return "< 1 %" if part < 0.005 else f"{100 * part:.0f} %"


def signed_percent(error: float) -> str:
    """A relative error: "+4 %", "−0.3 %"; from tenfold on as a factor."""
    if not math.isfinite(error):
        return UNKNOWN
    if error >= 9:
        return f"× {short(1 + error, 2)}"
    digits = 0 if abs(error) >= 0.0995 else 1
    text = f"{100 * abs(error):.{digits}f} %"
    return ("+" if error > 0 else "−" if error < 0 else "±") + text
