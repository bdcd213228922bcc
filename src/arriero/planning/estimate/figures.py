"""Figures on a sheet: bytes in GiB as memories are sold, bars, and quantities as data."""

from __future__ import annotations

import re
from typing import Any

from arriero.cost.quantity import Quantity
from arriero.cost.units import UNKNOWN, format_quantity, round_text

GIB = 2**30


def gib(value: float | None, digits: int = 3) -> str:
    """Bytes in binary units: "3.1 GiB"; MiB and KiB below one."""
    if value is None:
        return UNKNOWN
    for size, name in ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(value) >= size:
            return f"{round_text(value / size, digits)} {name}"
    return f"{value:.0f} B"


def gib_quantity(quantity: Quantity) -> str:
    """A quantity in bytes with its band: "51 GiB (50–61)"."""
    q = quantity
    if q.value is None or q.low is None or q.high is None:
        return UNKNOWN
    text = gib(q.value)
    if q.low == q.high:
        return text
    size = {"GiB": GIB, "MiB": 2**20, "KiB": 2**10}.get(text.split()[-1], 1)
    return f"{text} ({round_text(q.low / size)}–{round_text(q.high / size)})"


_LARGE = ((1e9, "B"), (1e6, "M"), (1e3, "k"))
_PHYSICAL = ("s", "B", "FLOP", "J", "g")


def told(quantity: Quantity) -> str:
    """A quantity for people: "2.3 M USD (1.2–2.9)"; an unknown one with the reason."""
    q = quantity
    if q.value is None or q.low is None or q.high is None:
        return f"{UNKNOWN}: {q.source}"
    if q.unit in _PHYSICAL:
        return format_quantity(q)
    size, name = next(((size, name) for size, name in _LARGE if q.value >= max(size, 1e4)), (1.0, ""))
    if size == 1.0 and q.unit.isupper():
        return format_quantity(q)
    text = f"{round_text(q.value / size, 2)} {name}{' ' if name else ''}{q.unit}"
    low, high = round_text(q.low / size, 2), round_text(q.high / size, 2)
    return text if low == high else f"{text} ({low}–{high})"


def bar(share: float, width: int = 28) -> str:
    """A bar of eighths of a character; anything above nothing shows."""
    eighths = max(1, round(min(1.0, share) * width * 8)) if share > 0 else 0
    rest = " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    return "█" * (eighths // 8) + rest


def percent(share: float) -> str:
    """A share as "61 %", one decimal below ten."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def plain_band(quantity: Quantity, digits: int = 3) -> str:
    """`2.29 (1.29–2.95)`, without the unit."""
    q = quantity
    if q.value is None or q.low is None or q.high is None:
        return UNKNOWN
    text = round_text(q.value, digits)
    return text if q.low == q.high else f"{text} ({round_text(q.low, digits)}–{round_text(q.high, digits)})"


def plus_minus(quantity: Quantity) -> str:
    """`-44 % to +29 %` of the middle; of a known quantity."""
    assert quantity.value is not None and quantity.low is not None and quantity.high is not None
    low, high = (100 * (end / quantity.value - 1) for end in (quantity.low, quantity.high))
    return f"{low:+.0f} % to {high:+.0f} %"


def price_words(price: Quantity, currency: str) -> str:
    """`2.29 (1.29–2.95) USD an hour and device, as of 2025-2026`; nothing where it is unknown."""
    if not price.known:
        return ""
    dates = re.findall(r"\((as of [^)]*)\)", price.source)
    return f"{plain_band(price)} {currency} an hour and device, {dates[-1] if dates else price.basis}"


def data(quantity: Quantity) -> dict[str, Any]:
    """A quantity for machines: value, low, high (null when unknown), unit, basis and source."""
    return quantity.model_dump()
