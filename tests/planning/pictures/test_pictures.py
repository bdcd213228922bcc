"""Pictures of any figures: well formed, no text on another, every figure in the texts, hostile names only names."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from arriero.cost.units import format_seconds
from arriero.planning.estimate.figures import gib
from arriero.planning.pictures import (
    Choice,
    LossPoint,
    Operation,
    OverTraining,
    Pair,
    Picture,
    PlanPoint,
    RankMemory,
    Roof,
    Term,
    accuracy_picture,
    loss_money_picture,
    memory_picture,
    pareto_picture,
    roofline_picture,
    waterfall_picture,
)  # fmt: skip

HOSTILE = "</text><script>alert('x')</script> & \"q\" \x1b[31m\x00\ud800 \u202e模型模型 " + "long" * 40
Check = Callable[[Picture], None]
Words = Callable[[Picture], str]
few = settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""Not made smaller when one fails: drawing takes long, and the message says which texts meet."""
names = st.one_of(st.sampled_from(["rank 0", "a", "", HOSTILE]), st.text(max_size=60))
sizes = st.floats(0, 1e18)
positive = st.floats(1e-12, 1e24)
odd = st.sampled_from([0.0, math.nan, math.inf, -1.0])
kinds = st.sampled_from(
    ["weights", "gradients", "optimizer", "activations", "logits", "kv", "runtime", HOSTILE]
)


# ---------------------------------------------------------------- memory


@few
@given(
    st.lists(
        st.builds(RankMemory, names, st.dictionaries(kinds, st.one_of(sizes, odd), max_size=8), st.one_of(sizes, odd)),
        max_size=9,
    ),
    st.one_of(st.none(), sizes, odd),
)  # fmt: skip
def test_memory_of_any_ranks(check: Check, ranks: list[RankMemory], capacity: float | None) -> None:
    check(memory_picture(ranks, capacity, title=HOSTILE))


def test_memory_says_what_is_left_and_what_is_missing(check: Check, words: Words) -> None:
    fits = RankMemory("rank 0", {"weights": 20 * 2.0**30, "logits": 5 * 2.0**30}, 5 * 2.0**30)
    spills = RankMemory("rank 1", {"weights": 20 * 2.0**30, "logits": 30 * 2.0**30}, 5 * 2.0**30)
    picture = memory_picture([fits, spills], 40 * 2.0**30)
    check(picture)
    for text in (words(picture), picture.text):
        for wanted in (
            "rank 0",
            "10.0 GiB left",
            "short by 15.0 GiB: logits",
            "capacity 40.0 GiB",
            "allocator margin",
        ):
            assert wanted in text
        for size in (20, 5, 30, 25, 50):
            assert gib(size * 2.0**30) in text
    tight = memory_picture([fits], 28 * 2.0**30)
    assert "short by 2.00 GiB with the margin: weights" in words(tight)


def test_equal_neighbours_share_a_bar_and_of_many_the_fullest_are_shown(words: Words) -> None:
    equal = memory_picture([RankMemory(f"rank {i}", {"weights": 1e9}) for i in range(8)], 2e9)
    assert "rank 0 … rank 7" in words(equal) and "rank 3" not in words(equal)
    many = words(
        memory_picture([RankMemory(f"rank {i}", {"weights": 1e9 * (i + 1)}) for i in range(6)], None)
    )
    assert "rank 5" in many and "rank 0" not in many and "the 4 fullest of 6 different ranks" in many
    assert "the device's memory is unknown" in many


def test_bars_are_as_long_as_their_bytes_and_end_before_the_capacity(words: Words) -> None:
    picture = memory_picture([RankMemory("r", {"weights": 1e9, "logits": 3e9}, 1e9)], 10e9)
    widths = [float(part.split('width="')[1].split('"')[0]) for part in picture.body.split("\n") if "<rect" in part and "<title>" in part]  # fmt: skip
    assert widths == pytest.approx([41.2, 123.6, 41.2], abs=0.1), "of 412 units for 10 GB"
    line = picture.text.splitlines()[2]
    assert line == "  " + "█" * 6 + "#" * 20 + "/" * 6 + " " * 32 + "|"


# ---------------------------------------------------------------- time


@few
@given(st.lists(st.builds(Term, names, st.one_of(sizes, odd), st.one_of(st.none(), sizes), st.one_of(st.none(), sizes)), max_size=12))  # fmt: skip
def test_waterfall_of_any_terms(check: Check, terms: list[Term]) -> None:
    check(waterfall_picture(terms, title=HOSTILE))
    if terms:
        check(waterfall_picture(terms, total=terms[0]))


def test_every_term_begins_where_the_one_before_it_ends(check: Check, words: Words) -> None:
    terms = [Term("products", 0.3), Term("attention", 0.1), Term("host", 0.1, 0.05, 0.2)]
    picture = waterfall_picture(terms, total=Term("a step", 0.5, 0.4, 0.7))
    check(picture)
    bars = [line for line in picture.body.split("\n") if "<rect" in line]
    spans = [[float(bar.split(f'{key}="')[1].split('"')[0]) for key in (" x", " width")] for bar in bars]
    for (x, width), (following, _) in pairwise(spans[:3]):
        assert x + width == pytest.approx(following, abs=0.11)
    assert spans[0][1] == pytest.approx(3 * spans[1][1], rel=0.02) and spans[3][0] == spans[0][0]
    for text in (words(picture), picture.text):
        assert "matrix products" in text and "300 ms · 60 %" in text and "500 ms (400–700)" in text
    lines = picture.text.splitlines()
    assert lines[1].index("█") == 19 and lines[2].index("█") == 19 + 18 and lines[2].count("█") == 6


# ---------------------------------------------------------------- roofline

roofs = st.builds(Roof, names, st.floats(1e3, 1e18), st.floats(1e3, 1e15))
operations = st.builds(
    Operation, names, st.one_of(st.floats(1e-6, 1e9), odd), st.one_of(st.none(), st.floats(1e-3, 1e20), odd),
    st.sampled_from(["products", "attention", "decode", "unheard of"]), st.integers(0, 3),
)  # fmt: skip


@few
@given(st.lists(roofs, max_size=3), st.lists(operations, max_size=12))
def test_roofline_of_any_operations(check: Check, found: list[Roof], work: list[Operation]) -> None:
    check(roofline_picture(found, work, title=HOSTILE))


def test_roofline_tells_the_limit(check: Check, words: Words) -> None:
    roof = Roof("bf16", 1000e12, 4e12)
    work = [Operation("FFN", 1000.0, 500e12), Operation("decode, batch 1", 1.0, kind="decode")]
    picture = roofline_picture([roof], work)
    check(picture)
    for text in (words(picture), picture.text):
        for wanted in ("FFN", "500 TFLOP/s", "50 %", "arithmetic", "decode, batch 1", "≤ 4.00 TFLOP/s", "memory", "250", "1.00 PFLOP/s", "4.00 TB/s"):  # fmt: skip
            assert wanted in text
    assert roof.ridge == 250 and roof.at(125.0) == 500e12


# ---------------------------------------------------------------- plans

plans = st.builds(
    PlanPoint, names, st.one_of(positive, odd), st.one_of(positive, odd),
    st.sampled_from(["", "memory: logits", "deadline", "budget", HOSTILE]), st.booleans(), st.booleans(),
)  # fmt: skip


@few
@example([PlanPoint("a", 1.0, 0.0)], None, None)
@given(st.lists(plans, max_size=30), st.one_of(st.none(), positive, odd), st.one_of(st.none(), positive, odd))
def test_plans_of_any_price(
    check: Check, found: list[PlanPoint], deadline: float | None, budget: float | None
) -> None:
    check(pareto_picture(found, deadline=deadline, budget=budget, title=HOSTILE))


def test_the_best_plan_and_why_the_others_do_not_do(check: Check, words: Words) -> None:
    found = [
        PlanPoint("8x H100", 3600.0, 20.0, front=True, best=True), PlanPoint("16x H100", 1900.0, 22.0, front=True),
        PlanPoint("4x 4090", 90000.0, 30.0, "deadline"), PlanPoint("1x 4090", 9e4, 8.0, "memory: logits"),
        PlanPoint("no price", 100.0, math.nan), PlanPoint("slow", 7200.0, 25.0),
    ]  # fmt: skip
    picture = pareto_picture(found, deadline=7000.0, budget=25.0, counts={"": 412, "deadline": 70_000, "memory: logits": 9})  # fmt: skip
    check(picture)
    for text in (words(picture), picture.text):
        for wanted in ("8x H100", "1.00 h", "20.00 USD", "16x H100", "31.7 min", "feasible: 412 plans", "deadline: 70,000 plans", "memory: logits: 9 plans", "without a time or price: 1"):  # fmt: skip
            assert wanted in text, wanted
    assert "budget 25.00 USD" in words(picture) and "deadline 1.9 h" in words(picture)
    rings = [
        line
        for line in picture.body.split("\n")
        if "<circle" in line and "paperf" in line and "<title>" in line
    ]
    assert len(rings) == 2 and any("deadline" in ring for ring in rings)


def test_a_hundred_thousand_plans_make_a_small_picture(check: Check) -> None:
    many = [PlanPoint(f"p{i}", 1e3 * 1.00005**i, 1e2 * 1.00003 ** (100_000 - i), "" if i % 3 else "memory: kv") for i in range(100_000)]  # fmt: skip
    picture = pareto_picture(many)
    check(picture)
    assert len(picture.svg()) < 200_000


# ---------------------------------------------------------------- loss and money

points = st.builds(
    LossPoint, st.one_of(positive, odd), st.one_of(st.floats(0, 1e6), odd), st.one_of(st.none(), st.floats(0, 10)),
    st.one_of(st.none(), st.floats(0, 10)),
)  # fmt: skip


@few
@given(
    st.lists(points, max_size=12),
    st.lists(st.builds(Choice, positive, positive, points, st.booleans()), max_size=6),
    st.lists(st.builds(OverTraining, names, st.lists(points, max_size=5)), max_size=3),
    st.one_of(st.none(), positive, odd),
)
def test_loss_of_any_money(
    check: Check, optimal: list[LossPoint], choices: list[Choice], over: list[OverTraining], budget: float | None
) -> None:  # fmt: skip
    check(loss_money_picture(optimal, choices, over, budget=budget, title=HOSTILE))


def test_loss_and_money_show_every_choice(check: Check, words: Words) -> None:
    optimal = [LossPoint(10.0**i, 4.0 - 0.4 * i, 3.9 - 0.4 * i, 4.1 - 0.4 * i) for i in range(4)]
    choices = [
        Choice(1e8, 2e9, LossPoint(2.0, 3.5, 3.4, 3.6)),
        Choice(1e9, 2e10, LossPoint(208.0, 2.53), best=True),
    ]
    over = [OverTraining("1 B on ever more", [LossPoint(300.0, 2.5), LossPoint(900.0, 2.45)])]
    picture = loss_money_picture(optimal, choices, over, budget=300.0, currency="EUR")
    check(picture)
    for text in (words(picture), picture.text):
        for wanted in ("100 M on 2 B tokens", "3.500 (3.40–3.60)", "1 B on 20 B tokens", "208", "2.530", "1 B on ever more", "900", "2.450", "money, EUR"):  # fmt: skip
            assert wanted in text, wanted
    assert (
        "polygon" in picture.body
        and "stroke-dasharray" in picture.body
        and "budget 300.00 EUR" in words(picture)
    )


# ---------------------------------------------------------------- predicted and measured

pairs = st.builds(
    Pair, names, st.sampled_from(["seconds", "peak_memory", "money", HOSTILE]), st.sampled_from(["s", "B", "USD", HOSTILE]),
    st.one_of(positive, odd), st.one_of(positive, odd), st.one_of(st.none(), positive), st.one_of(st.none(), positive),
)  # fmt: skip


@few
@given(st.lists(pairs, max_size=30))
def test_accuracy_of_any_pairs(check: Check, found: list[Pair]) -> None:
    check(accuracy_picture(found, title=HOSTILE))


def test_accuracy_shows_every_figure_and_the_error(check: Check, words: Words) -> None:
    found = [
        Pair("base", "seconds", "s", 216.0, 240.0, 180.0, 260.0), Pair("sft", "seconds", "s", 60.0, 40.0, 50.0, 70.0),
        Pair("base", "peak_memory", "B", 9.4e8, 9.4e8), Pair("dpo", "seconds", "s", 0.0, 3.0),
    ]  # fmt: skip
    picture = accuracy_picture(found)
    check(picture)
    for text in (words(picture), picture.text):
        for wanted in ("3.6 min → 4.00 min", "−10 %", "1.0 min → 40.0 s", "+50 %", "940 MB → 940 MB", "±0.0 %", "1 of 2 within ±10 %, 1 within ±25 %; 1 of 2 inside their band"):  # fmt: skip
            assert wanted in text, wanted
    assert "dpo" not in words(picture), "what has no ratio is not drawn"


def test_of_many_pairs_the_worst_are_listed(words: Words) -> None:
    many = [Pair(f"s{i:02d}", "seconds", "s", 10.0 + (i % 7), 10.0) for i in range(40)]
    text = words(accuracy_picture(many))
    assert "the worst of 40" in text and "+60 %" in text and format_seconds(10.0, 2) in text


# ---------------------------------------------------------------- all of them

EMPTY: list[tuple[str, Callable[..., Picture], tuple[Any, ...]]] = [
    ("memory", memory_picture, ([], None)), ("time", waterfall_picture, ([],)), ("roofline", roofline_picture, ([], [])),
    ("plans", pareto_picture, ([],)), ("loss-money", loss_money_picture, ([],)), ("accuracy", accuracy_picture, ([],)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "draw", "nothing"), EMPTY, ids=[name for name, _, _ in EMPTY])
def test_nothing_to_draw_says_so(
    check: Check, words: Words, name: str, draw: Callable[..., Picture], nothing: tuple[Any, ...]
) -> None:  # fmt: skip
    picture = draw(*nothing)
    check(picture)
    assert (
        picture.name == name and len(picture.text.splitlines()) == 2 and len(words(picture).splitlines()) == 2
    )


def test_hostile_names_are_only_text(check: Check) -> None:
    picture = memory_picture(
        [RankMemory(HOSTILE, {HOSTILE: 1e9})], 2e9, title=HOSTILE, name="../../" + HOSTILE
    )
    check(picture)
    assert "<script" not in picture.svg() and "\x1b" not in picture.text and "/" not in picture.name
