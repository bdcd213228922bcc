"""The training part of the report: what is drawn of a run's metrics, its samples and its health events."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.evaluation.scale import Scale
from arriero.recipe.report import ReportData, StageLine
from arriero.recipe.report.curves import Curve, Series, draw, draw_stacked, joined_end, series, step_scale
from arriero.recipe.report.page import render
from arriero.recipe.report.training import TrainingPart, training_parts

HOSTILE = "<script>alert('x')</script>"
FORMULA = "FLOPs of the steps / (seconds x the fastest product)"
EVENTS = [
    {"step": 40, "event": "skipped", "why": "loss 9.1 lies far above the mean"},
    {"step": 60, "event": "spike", "why": HOSTILE},
    {"step": 90, "event": "corruption", "why": "another gradient"},
]


def metrics(steps: int = 100) -> list[dict[str, Any]]:
    """Lines as a pretraining run on a mixture writes them."""
    lines: list[dict[str, Any]] = []
    for step in range(0, steps + 1, 10):
        if step:
            lines.append(
                {"step": step, "loss": 5 - step / 50, "masked_loss": 4.0, "lr": 1e-3, "grad_norm": 1e3 / step, "tokens_seen": step,
                 "tokens_per_s": 60_000.0, "mfu": 0.42, "seconds": 1.0, "cpu_seconds": 1.0, "memory_bytes": 900e6,
                 "weights_bytes": 100e6, "gradients_bytes": 100e6, "optimizer_bytes": 200e6, "data_wait_share": 0.01}
            )  # fmt: skip
        if step % 20 == 0:
            lines.append(
                {"step": step, "heldout_loss": 5 - step / 60, "heldout_masked_loss": 4.5, "heldout_bits_per_byte": 2.5,
                 "heldout_bits_per_byte_web": 3.0, "heldout_bits_per_byte_books": 2.0, "train_seconds": 1.0}
            )  # fmt: skip
            lines.append(
                {
                    "step": step,
                    "task_answer_loss": 3.0,
                    "samples": [{"prompt": HOSTILE, "text": f" at {step} "}],
                }
            )
    return lines


def a_stage(**more: Any) -> StageLine:
    facts = {
        "events": EVENTS,
        "mfu": {"value": 0.4, "formula": FORMULA, "precision": "float32", "peak_flops_per_s": 1e11},
    }
    return StageLine(
        **{"name": "base", "kind": "pretrain", "makes": "model", "metrics": metrics(), "facts": facts, **more}
    )


def part_of(**more: Any) -> TrainingPart:
    (part,) = training_parts(ReportData(name="run", stages=[a_stage(**more)]))
    return part


def titled(curves: list[Curve]) -> dict[str, Curve]:
    return {curve.title: curve for curve in curves}


def points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for pair in text.split() for x, y in [pair.split(",")]]


# ---------------------------------------------------------------- what is drawn


def test_loss_is_the_large_chart_with_held_out_dots_and_marks() -> None:
    loss = part_of().loss
    train, heldout = loss.lines
    assert (train.kind, heldout.kind) == ("train", "heldout")
    assert len(points(train.points)) == 10 and len(heldout.dots) == 6
    assert loss.caption == "ends at 3.000 · held out 5.000 → 3.333"
    assert [(mark.at, mark.kind) for mark in loss.marks] == [
        (40.0, "skipped"),
        (60.0, "spike"),
        (90.0, "corruption"),
    ]


def test_each_source_has_its_line() -> None:
    bits = titled(part_of().figures)["held-out bits per byte of each source"]
    assert [line.text for line in bits.legend] == ["web 3.000", "books 2.000"]
    web, books = (points(line.points) for line in bits.lines)
    assert web[0][1] < books[0][1], "the larger figure stands higher"
    assert "2.500" in bits.caption


def test_one_source_has_one_line() -> None:
    lines = [
        {k: v for k, v in line.items() if not k.startswith("heldout_bits_per_byte_")} for line in metrics()
    ]
    bits = titled(part_of(metrics=lines).figures)["held-out bits per byte"]
    assert len(bits.lines) == 1 and not bits.legend


def test_sources_without_bytes_show_their_loss() -> None:
    lines = [
        {k.replace("bits_per_byte", "loss") if k.startswith("heldout_bits_per_byte_") else k: v for k, v in line.items()}
        for line in metrics()
    ]  # fmt: skip
    figures = titled(part_of(metrics=lines).figures)
    assert [line.text for line in figures["held-out loss of each source"].legend] == [
        "web 3.000",
        "books 2.000",
    ]


def test_an_objectives_own_figures_and_tasks_are_drawn_without_being_known() -> None:
    figures = titled(part_of().figures)
    assert [line.kind for line in figures["masked loss"].lines] == ["train", "heldout"]
    assert [line.kind for line in figures["answers of a task, nats a token"].lines] == ["heldout"]
    assert len(figures) == 3, "clocks and positions are no figures to look at"


def test_the_machine() -> None:
    part = part_of()
    curves = titled(part.machine)
    assert list(curves) == [
        "learning rate", "gradient norm", "tokens/s", "MFU", "memory", "share of the time waiting for data"
    ]  # fmt: skip
    assert curves["MFU"].caption == "median 42 %" and curves["tokens/s"].caption == "median 60 k"
    assert (
        part.formula.startswith("MFU over the whole run 40 %: " + FORMULA) and "100 GFLOP/s" in part.formula
    )
    assert part_of(facts={}).formula == ""


def test_memory_adds_up_to_the_process() -> None:
    memory = titled(part_of().machine)["memory"]
    assert [line.text for line in memory.legend] == [
        "weights 100 MB",
        "gradients 100 MB",
        "optimizer 200 MB",
        "the rest 500 MB",
    ]
    assert memory.caption.startswith("900 MB at most")
    tops = [points(line.points)[0][1] for line in memory.lines]
    heights = [100 - top for top in tops]
    assert [height / heights[-1] for height in heights] == pytest.approx([1 / 9, 2 / 9, 4 / 9, 1], abs=1e-3)


def test_memory_without_its_kinds() -> None:
    lines = [{"step": i, "loss": 1.0 + i, "memory_bytes": 5e8} for i in range(4)]
    memory = titled(part_of(metrics=lines).machine)["memory"]
    assert [line.text for line in memory.legend] == ["the rest 500 MB"]


def test_samples_by_prompt() -> None:
    (samples,) = part_of().samples
    assert samples.prompt == HOSTILE and samples.left_out == 0
    assert [(row.step, row.text) for row in samples.rows][:2] == [("0", "at 0"), ("20", "at 20")]


def test_of_many_samples_the_first_and_last_are_shown() -> None:
    lines = [{"step": i, "loss": 1.0} for i in range(1, 40)]
    lines += [
        {"step": i, "samples": [{"prompt": "a", "text": ""}, {"prompt": "b", "text": "x"}]} for i in range(40)
    ]
    first, second = part_of(metrics=lines).samples
    assert [row.step for row in first.rows][:: len(first.rows) - 1] == ["0", "39"]
    assert len(second.rows) + second.left_out == 40
    assert "(no text)" in render(ReportData(name="run", stages=[a_stage(metrics=lines)]))


def test_events_as_a_table_of_the_last_ones() -> None:
    events = [{"step": i, "event": "skipped", "why": f"reason {i}"} for i in range(1, 31)]
    part = part_of(facts={"events": events})
    assert len(part.events) == 20 and part.events_left_out == 10 and part.events[-1].why == "reason 30"
    assert len(part.loss.marks) == 30


def test_stages_without_a_curve_have_no_part() -> None:
    for lines in (
        [],
        [{"step": 1, "loss": 2.0}],
        [{"note": "x"}],
        [{"step": i, "loss": math.nan} for i in range(9)],
    ):
        assert training_parts(ReportData(name="run", stages=[a_stage(metrics=lines)])) == []


def test_many_stages_fold_their_machine_charts() -> None:
    few = training_parts(ReportData(name="run", stages=[a_stage(name=f"s{i}") for i in range(3)]))
    many = training_parts(ReportData(name="run", stages=[a_stage(name=f"s{i}") for i in range(4)]))
    assert not any(part.folded for part in few) and all(part.folded for part in many)


# ---------------------------------------------------------------- the page


class Tags(HTMLParser):
    """Text, and the tags that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_it_all_and_escapes_it() -> None:
    page = render(ReportData(name="run", stages=[a_stage()]))
    tags = Tags()
    tags.feed(page)
    text = " ".join(tags.text.split())
    assert not tags.open and "<script" not in page
    for words in (
        FORMULA,
        "What the health rules did",
        "another gradient",
        "Samples of the run",
        HOSTILE,
        "weights 100 MB",
        "books 2.000",
    ):
        assert words in text, words
    assert len(re.findall(r'class="event (skipped|spike|corruption)"', page)) == 3
    assert "--c1:" in page and page.count("prefers-color-scheme: dark") == 1


def test_a_quiet_run_says_nothing_of_events() -> None:
    page = render(ReportData(name="run", stages=[a_stage(facts={"events": []})]))
    assert "What the health rules did" not in page and 'class="event' not in page


# ---------------------------------------------------------------- curves


values = st.lists(
    st.tuples(st.integers(0, 10**6), st.floats(-1e9, 1e9)), min_size=2, max_size=40, unique_by=lambda p: p[0]
)


@given(values, st.sampled_from(["close", "zero", "log"]))
def test_every_line_stays_in_its_box(found: list[tuple[int, float]], axis: Any) -> None:
    line = [(float(step), value) for step, value in sorted(found)]
    x = Scale(line[0][0], line[-1][0])
    curve = draw("t", [Series(line, "train")], x, "", axis=axis)
    assert curve is not None
    assert all(0 <= a <= 100 and 0 <= b <= 100 for a, b in points(curve.lines[0].points))
    assert all(0 <= at <= 100 for at, _ in [*curve.x_ticks, *curve.y_ticks])


@given(st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 1e12)), min_size=2, max_size=40))
def test_stacks_stand_on_each_other(found: list[tuple[float, float]]) -> None:
    lower = Series([(float(i), a) for i, (a, _) in enumerate(found)], "c1", "a")
    upper = Series([(float(i), b) for i, (_, b) in enumerate(found)], "c2", "b")
    curve = draw_stacked("t", [lower, upper], Scale(0.0, len(found) - 1.0), "")
    assert curve is not None
    first, second = (points(line.points) for line in curve.lines)
    n = len(found)
    assert second[n:] == list(reversed(first[:n])), "the upper part ends where the lower one begins"
    assert all(y == 100 for _, y in first[n:])


def test_a_norm_over_decades_is_logarithmic() -> None:
    x = Scale(0.0, 2.0)
    wide, narrow = ([(0.0, 1.0), (1.0, top), (2.0, 1.0)] for top in (1e4, 10.0))
    (log,) = draw("t", [Series(wide, "train")], x, "", axis="log").lines  # type: ignore[union-attr]
    (linear,) = draw("t", [Series(narrow, "train")], x, "", axis="log").lines  # type: ignore[union-attr]
    assert points(log.points)[0][1] < 99 < points(linear.points)[0][1] + 10


def test_series_leaves_out_what_is_no_number() -> None:
    lines = [
        {"step": 1, "a": 1},
        {"step": 2, "a": "x"},
        {"step": 3, "a": True},
        {"a": 4},
        {"step": 5, "a": math.inf},
    ]
    assert series(lines, "a") == [(1.0, 1.0)]
    assert step_scale([]) is None and step_scale([{"step": 3}]) is None


def test_a_short_last_stretch_is_joined_to_the_one_before() -> None:
    even = [(10.0, 3.0), (20.0, 2.0), (30.0, 1.0)]
    assert joined_end(even) == even and joined_end(even[:2]) == even[:2]
    assert joined_end([*even, (35.0, 4.0)]) == [*even, (35.0, 4.0)], "half of the usual length says enough"
    assert joined_end([*even, (31.0, 6.5)]) == [*even[:2], (31.0, 1.5)]
