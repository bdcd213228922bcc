"""Figures for people: seconds, bytes, FLOPs, energy, mass and money, rounded to what they are worth.

Modelled figures get two significant digits, measured ones three. What is unknown prints "unknown", never 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from arriero.cost.quantity import Quantity

UNKNOWN = "unknown"
_Scale = tuple[tuple[float, str], ...]

_SECONDS: _Scale = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES: _Scale = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_FLOPS: _Scale = (
    (1e24, "YFLOP"), (1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"),
    (1e6, "MFLOP"), (1e3, "kFLOP"), (1.0, "FLOP"),
)  # fmt: skip
_JOULES: _Scale = ((3.6e9, "MWh"), (3.6e6, "kWh"), (3600.0, "Wh"), (3.6, "mWh"), (3.6e-3, "µWh"))
_GRAMS: _Scale = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg"))
_SCALES: dict[str, _Scale] = {"s": _SECONDS, "B": _BYTES, "FLOP": _FLOPS, "J": _JOULES, "g": _GRAMS}


def round_text(value: float, digits: int = 3) -> str:
    """``value`` with that many significant digits: no exponent, thousands grouped, no padding beyond the digits.

    Whole digits before the point are kept when there are more of them than ``digits``, rounded:
    1234.5 with 2 digits is "1,200".
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    if rounded and math.floor(math.log10(abs(rounded))) > math.floor(math.log10(abs(value))):
        decimals -= 1  # 9.96 with 2 digits has become 10, which needs one decimal less
    return f"{rounded:,.{max(decimals, 0)}f}"


def _pick(value: float, scale: _Scale, digits: int) -> tuple[float, str]:
    """The largest unit of the scale in which the *rounded* value is at least 1 (so never "1,000 kB")."""
    if value == 0:
        return next((pair for pair in scale if pair[0] == 1.0), scale[len(scale) // 2])
    for size, name in scale:
        if float(round_text(abs(value) / size, digits).replace(",", "")) >= 1:
            return size, name
    return scale[-1]


def _scaled(value: float | None, scale: _Scale, digits: int) -> str:
    if value is None:
        return UNKNOWN
    size, name = _pick(value, scale, digits)
    return f"{round_text(value / size, digits)} {name}"


def format_seconds(value: float | None, digits: int = 3) -> str:
    """Seconds as "840 ms", "3.2 min", "1.5 d"."""
    return _scaled(value, _SECONDS, digits)


def format_bytes(value: float | None, digits: int = 3) -> str:
    """Bytes in decimal units, as disks are sold: "7.41 MB"."""
    return _scaled(value, _BYTES, digits)


def format_flops(value: float | None, digits: int = 3) -> str:
    """Floating-point operations: "12 TFLOP"."""
    return _scaled(value, _FLOPS, digits)


def format_energy(value: float | None, digits: int = 3) -> str:
    """Joules, printed as watt-hours: "1.9 Wh"."""
    return _scaled(value, _JOULES, digits)


def format_mass(value: float | None, digits: int = 3) -> str:
    """Grams (of CO2): "730 mg", "1.2 kg"."""
    return _scaled(value, _GRAMS, digits)


_LEAST_MONEY = 1e-4


def format_money(value: float | None, currency: str = "USD", digits: int = 2) -> str:
    """An amount: whole cents from 1 up, below that ``digits`` digits, and "< 0.0001 USD" for next to nothing."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 1:
        return f"{value:,.2f} {currency}" if abs(value) < 10000 else f"{value:,.0f} {currency}"
    if 0 < value < _LEAST_MONEY:
        return f"< {_LEAST_MONEY:.4f} {currency}"
    return f"{round_text(value, digits)} {currency}"


def format_count(value: float | None) -> str:
    """A count as people say it: "2.1 M", "734 k", "950"."""
    scale: _Scale = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, ""))
    return _scaled(value, scale, 3).strip() if value is None or value >= 1000 else f"{value:,.0f}"


_FORMATS: dict[str, Callable[[float | None, int], str]] = {
    "s": format_seconds, "B": format_bytes, "FLOP": format_flops, "J": format_energy, "g": format_mass,
}  # fmt: skip


def format_value(value: float | None, unit: str, digits: int = 3) -> str:
    """A figure in the human unit that belongs to its base unit; units that are not listed are money."""
    return _FORMATS[unit](value, digits) if unit in _FORMATS else format_money(value, unit)


def format_quantity(quantity: Quantity, *, band: bool = True) -> str:
    """A quantity with its band in the unit of the middle: "3.2 min (2.6–4.0)"; a figure without a band alone."""
    q = quantity
    if q.value is None or q.low is None or q.high is None:
        return UNKNOWN
    digits = 2 if q.basis == "modelled" else 3
    text = format_value(q.value, q.unit, digits)
    if not band or q.low == q.high or text.startswith("<"):
        return text
    scale = _SCALES.get(q.unit)
    size = _pick(q.value, scale, digits)[0] if scale else 1.0
    low, high = round_text(q.low / size, digits), round_text(q.high / size, digits)
    return text if low == high else f"{text} ({low}–{high})"
