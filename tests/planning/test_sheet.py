"""The sheet: one screen, nothing unknown shown as a figure, data that a program can read."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

from rich.console import Console

from arriero.cost.quantity import Quantity
from arriero.planning.estimate.figures import bar, gib, gib_quantity, percent, plus_minus, told
from arriero.planning.estimate.sheet import Fit, LeftOut, Part, Sheet

GIB = 2.0**30


def fit(high: float, capacity: Quantity) -> Fit:
    logits = Quantity.exact(20.0 * GIB, "B", "modelled")
    margin = Quantity(
        value=(high - 20) / 2 * GIB, low=0.0, high=(high - 20) * GIB, unit="B", basis="modelled"
    )
    total = Quantity(value=(high + 20) / 2 * GIB, low=20.0 * GIB, high=high * GIB, unit="B", basis="modelled")
    return Fit({"logits": logits, "margin": margin}, total, capacity)


def sheet(**changes: Any) -> Sheet:
    made = Sheet(
        model="toy", question="1 T tokens on 8 × thing", settings=(("context", "512"), ("precision", "bf16")),
        answer={"time": Quantity.band(3e5, 0.2, "s", "modelled", "a formula"), "money": Quantity.unknown("USD", "no price is known")},
        tier="tier C", fit=fit(30, Quantity.exact(80.0 * GIB, "B", "declared")), flops={"products": 3e20, "head": 1e20},
        mfu=Quantity.band(0.4, 0.1, "1", "modelled"), mfu_formula="MFU = FLOP / peak", steps=1000,
        step=(Part("products", 0.9), Part("bubble", 0.1), Part("host", 0.0)),
        left_out=(LeftOut("the whole project", "1.5 to 5.6 times", Quantity.band(9e6, 0.5, "USD", "modelled")),),
        doubts=("price",), next_action="do this", sharper="measure",
    )  # fmt: skip
    return replace(made, **changes)


def printed(found: Sheet) -> str:
    out = io.StringIO()
    found.print(Console(file=out, width=120, no_color=True))
    return out.getvalue()


def test_one_screen_with_the_answer_first() -> None:
    text = printed(sheet())
    lines = text.splitlines()
    assert lines[0].startswith("toy: 1 T tokens") and len(lines) <= 45
    for part in ("3.5 d (2.9–4.2)", "unknown: no price is known", "of 80.0 GiB: fits", "MFU = FLOP / peak = 40 % (36–44)",
                 "products 75 %, head 25 %", "90 %", "9.0 M USD (6.0–14)", "do this", "measure"):  # fmt: skip
        assert part in text, part
    assert (
        text.index("3.5 d")
        < text.index("GiB")
        < text.index("MFU")
        < text.index("not included")
        < text.index("do this")
    )
    assert "host" not in text, "a term of no seconds has no line"


def test_a_misfit_is_said_first_with_what_binds() -> None:
    found = sheet(fit=fit(30, Quantity.exact(25.0 * GIB, "B", "declared")))
    text = printed(found)
    assert "It does not fit: short by 5.00 GiB: logits." in text
    assert text.index("It does not fit") < text.index("time")
    assert found.fit.short == 5 * GIB and found.fit.binding == "logits"


def test_an_unknown_capacity_neither_fits_nor_not() -> None:
    found = fit(30, Quantity.unknown("B", "nobody has told"))
    assert found.short is None and found.verdict == "unknown: nobody has told"


def test_the_data_say_the_same() -> None:
    found = json.loads(json.dumps(sheet().to_json(), allow_nan=False))
    assert found["format"] == "arriero.estimate/1"
    assert found["answer"]["money"] == {"value": None, "low": None, "high": None, "unit": "USD", "basis": "unknown",
                                        "source": "no price is known"}  # fmt: skip
    time = found["answer"]["time"]
    assert (
        time["low"] < time["value"] < time["high"] and time["unit"] == "s" and time["source"] == "a formula"
    )
    assert found["memory"]["verdict"] == "fits" and found["memory"]["short_bytes"] == 0
    assert sum(found["step_seconds"].values()) == 1.0 and found["steps"] == 1000


def test_markup_in_names_is_only_text() -> None:
    assert "[red]toy[/]" in printed(sheet(model="[red]toy[/]"))


def test_figures() -> None:
    assert [gib(value) for value in (0.0, 12.0, 1536.0, 3.5 * 2**20, 80.0 * GIB, None)] == [
        "0 B", "12 B", "1.50 KiB", "3.50 MiB", "80.0 GiB", "unknown",
    ]  # fmt: skip
    assert (
        gib_quantity(Quantity(value=2.0 * GIB, low=1.0 * GIB, high=4.0 * GIB, unit="B", basis="modelled"))
        == "2.00 GiB (1.00–4.00)"
    )
    assert told(Quantity.band(2.5e6, 0.25, "USD", "modelled")) == "2.5 M USD (2.0–3.1)"
    assert told(Quantity.exact(120.5, "USD", "declared")) == "120.50 USD"
    assert told(Quantity.exact(90e3, "h", "modelled")) == "90 k h"
    assert [percent(share) for share in (0.0, 0.031, 0.0996, 0.4)] == ["0.0 %", "3.1 %", "10 %", "40 %"]
    assert (
        bar(1.0, 4) == "████"
        and bar(0.0, 4) == ""
        and bar(1e-9, 4) == "▏"
        and bar(0.5, 4) == "██"
        and bar(2.0, 4) == "████"
    )
    assert plus_minus(Quantity.band(1.0, 0.25, "1", "modelled")) == "-20 % to +25 %"
