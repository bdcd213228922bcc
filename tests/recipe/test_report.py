"""The report on a made-up run that has everything: reused and failed stages, unknown figures, hostile texts."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.artifacts.manifest import LicenseRecord, SourceRecord
from arriero.cost import Estimate, Quantity
from arriero.cost.units import format_bytes, format_money, format_quantity, format_seconds, round_text
from arriero.errors import DamagedArtifactError
from arriero.evaluation.answers import Floats
from arriero.evaluation.bootstrap import Resampling
from arriero.evaluation.comparison import ANSWER_LOSS, BITS_PER_BYTE, PREFERENCE, MeasureKind, Table, compare
from arriero.evaluation.scale import Scale, thinned
from arriero.evaluation.scores import ModelLine, Sample, Samples, SampleSet, Scores
from arriero.recipe.report import ReportData, ScoreSheet, StageLine, report_json, write_report
from arriero.recipe.report.cost_pictures import cost_pictures
from arriero.recipe.report.page import render
from arriero.recipe.report.road import road

HOSTILE = "<script>alert('x')</script> & \"quotes\""


def sheet(seconds: float, memory: float, flops: float, basis: str, spread: float) -> Estimate:
    """Both sides of a ledger line have this shape; energy and money follow from seconds as the walk prices them."""
    return Estimate(
        seconds=Quantity.band(
            seconds, spread, "s", basis, "a clock" if basis == "measured" else "traced step x 1.12"
        ),
        peak_memory=Quantity.band(memory, spread / 2, "B", basis),
        flops=Quantity.exact(flops, "FLOP", "measured" if basis == "measured" else "modelled"),
        energy=Quantity.band(18.0 * seconds, 0.4, "J", "modelled", "CPU seconds times watts"),
        co2=Quantity.band(18.0 * seconds / 3.6e6 * 480, 0.4, "g", "modelled", "grid 480 g/kWh"),
        money=Quantity.band(
            0.096 / 3600 * seconds, 0.2, "USD", "declared", "2 vCPU, price list of 2026-03-01"
        ),
    )


def stage(
    name: str, kind: str, makes: str, made: str, seconds: float, factor: float, **more: Any
) -> StageLine:
    memory, flops = more.pop("memory", 5.2e8), more.pop("flops", 0.0)
    return StageLine(
        name=name, kind=kind, makes=makes, made=made, key="3f9c2a71b0de" + name,
        predicted=sheet(seconds / factor, memory * 0.96, flops, "modelled", 0.25),
        measured=sheet(seconds, memory, flops, "measured", 0.0), **more,
    )  # fmt: skip


def metrics(
    steps: int, start: float, end: float, tokens_per_s: float, **more: tuple[float, float]
) -> list[dict[str, Any]]:
    rng, lines = random.Random(steps), []
    for step in range(10, steps + 1, 10):
        t = step / steps
        line = {
            "step": step,
            "loss": end + (start - end) * math.exp(-5 * t) + rng.gauss(0, 0.04),
            "lr": 3e-3 * (1 - t),
        }
        line |= {name: a + (b - a) * t + rng.gauss(0, 0.02) for name, (a, b) in more.items()}
        lines.append(line | {"tokens_per_s": tokens_per_s * rng.uniform(0.95, 1.05)})
        if step % (steps // 4) < 10:
            lines.append({"step": step, "heldout_loss": end + 0.08 + (start - end) * math.exp(-5 * t)})
    return [{"step": 0, "heldout_loss": start}, *lines]


def columns(kind: MeasureKind, n: int, means: dict[str, float]) -> Table:
    """Per-item figures around the means, hard items hard for all models."""
    rng = random.Random(n)
    weights = [rng.uniform(300, 3000) if kind.unit == "bits/byte" else 1.0 for _ in range(n)]
    hard = [rng.gauss(0, 0.12) for _ in range(n)]
    table = Table(kind, of=n + 3)
    for name, mean in means.items():
        if kind.unit == "share":
            top: list[float] = [float(h + rng.gauss(0, 0.15) < (mean - 0.5) * 0.6) for h in hard]
        else:
            top = [w * (mean + h * 0.8 + rng.gauss(0, 0.02)) for w, h in zip(weights, hard, strict=True)]
        table.columns[name] = (as_floats(top), as_floats(weights))
    return table


def as_floats(values: list[float]) -> Floats:
    import numpy as np

    return np.asarray(values, float)


def scores() -> Scores:
    sizes = {"base": 21.3e6, "sft": 21.3e6, "dpo": 21.3e6, "int8": 8.4e6, "int4": 6.1e6}
    parents = {"sft": "base", "dpo": "sft", "int8": "dpo", "int4": "dpo"}
    kinds = {"base": "pretrain", "sft": "sft", "dpo": "dpo", "int8": "quantize", "int4": "quantize"}
    lines = [
        ModelLine(
            name=name, kind=kinds[name], format=name if name.startswith("int") else "float32", n_parameters=5_312_768,
            weight_bytes=int(size), parent=parents.get(name),
        )
        for name, size in sizes.items()
    ]  # fmt: skip
    lines.append(ModelLine(name="5-gram", kind="reference", n_parameters=1_904_212))
    lines.append(ModelLine(name="unigram", kind="reference", n_parameters=4096))
    how = Resampling(400, 0.95, 1)
    tables = [
        columns(BITS_PER_BYTE, 180, {"base": 1.71, "sft": 1.75, "dpo": 1.755, "int8": 1.756, "int4": 1.80, "5-gram": 1.98, "unigram": 2.94}),
        columns(ANSWER_LOSS, 120, {"base": 3.41, "sft": 2.12, "dpo": 2.16, "int8": 2.161, "int4": 2.23}),
        columns(PREFERENCE, 140, {"base": 0.52, "sft": 0.55, "dpo": 0.71, "int8": 0.71, "int4": 0.70}),
    ]  # fmt: skip
    return Scores(
        confidence=0.95, bootstrap_samples=400, baseline="base", models=lines,
        measures=[compare(table, lines, "base", how) for table in tables],
        notes=["text: 291,204 bytes in 180 documents of 'validation'; n-gram models are fitted on all tokens of 'train'"],
    )  # fmt: skip


def samples() -> Samples:
    answers = {
        "base": "The city of the north was\nthe first to be built in the city of the north", "sft": "Paris is the capital of France.",
        "dpo": "The capital of France is Paris.", "int8": "The capital of France is Paris.", "int4": "",
    }  # fmt: skip
    return Samples(
        max_tokens=64,
        prompts=[
            SampleSet(prompt=prompt, answers=[
                Sample(model=name, text=text, finish="length" if name == "base" else "stop", tokens=9) for name, text in answers.items()
            ])
            for prompt in ("What is the capital of France?", f"Repeat: {HOSTILE}")
        ],
    )  # fmt: skip


CURATE_FACTS = {
    "sources": {
        "stories": {"in": {"documents": 5200, "bytes": 4_100_000}, "kept": {"documents": 5011, "bytes": 3_980_000},
         "dropped": {"near_duplicate": {"documents": 140, "bytes": 90_000}, "exact_duplicate": {"documents": 49, "bytes": 30_000}}},
        "web": {"in": {"documents": 1400, "bytes": 2_900_000}, "kept": {"documents": 903, "bytes": 1_850_000},
         "dropped": {"min_words": {"documents": 260, "bytes": 60_000}, "max_duplicate_lines": {"documents": 237, "bytes": 990_000}}},
    },
    "total": {
        "in": {"documents": 6600, "bytes": 7_000_000}, "kept": {"documents": 5914, "bytes": 5_830_000},
        "dropped": {"min_words": {"documents": 260, "bytes": 60_000}, "max_duplicate_lines": {"documents": 237, "bytes": 990_000},
                    "near_duplicate": {"documents": 140, "bytes": 90_000}, "exact_duplicate": {"documents": 49, "bytes": 30_000}},
    },
    "kept_share": {"documents": 0.8961, "bytes": 0.8329},
}  # fmt: skip


EVENTS = [
    {
        "step": 210,
        "event": "skipped",
        "why": "the loss 9.31 is above 5.2, an outlier among the last 128 steps",
    }
]
IN_RUN = [
    {"step": step, "samples": [{"prompt": HOSTILE, "text": f"{HOSTILE} {'long' * 30}"}, {"prompt": "Once", "text": "upon a time"}]}
    for step in (0, 300, 590)
]  # fmt: skip


def made_up() -> ReportData:
    model = {"type": "model", "n_parameters": 5_312_768, "weight_bytes": 21_300_000, "format": "float32"}
    made = "5.31 M parameters, float32, 21.3 MB"
    stages = [
        stage("corpus", "curate", "corpus", "5.91 k documents, 5.83 MB", 6.4, 0.9, facts=CURATE_FACTS, reused=True),
        stage("tokenizer", "tokenizer", "tokenizer", "4,096 pieces, 3.6 B/token", 2.1, 1.2, inputs=["corpus"], reused=True),
        stage("tokens", "tokenize", "tokens", "1.62 M tokens", 1.2, 0.7, inputs=["corpus", "tokenizer"]),
        stage("base", "pretrain", "model", made, 231.0, 1.08, inputs=["tokens"], flops=5.8e13, memory=9.4e8, spec=model,
              settings={"d_model": 256, "n_layers": 6, "learning_rate": 3e-3, "duration": "1.5 epochs", "grad_clip": 1.0},
              notes=["2.43 M tokens in 593 steps"], facts={"events": EVENTS}, metrics=[*metrics(590, 8.3, 3.4, 10_800), *IN_RUN]),
        stage("sft", "sft", "model", made, 58.0, 0.97, inputs=["base"], flops=9.1e12, memory=8.1e8, spec=model,
              metrics=metrics(240, 3.4, 2.05, 7900)),
        stage("dpo", "dpo", "model", made, 31.0, 1.61, inputs=["sft"], flops=5.5e12, memory=1.1e9, spec=model,
              metrics=metrics(80, 0.693, 0.61, 6100, preference_accuracy=(0.5, 0.69))),
        stage("int8", "quantize", "model", "5.31 M parameters, int8, 8.4 MB", 0.6, 1.1, inputs=["dpo"],
              spec={**model, "format": "int8", "weight_bytes": 8_400_000}),
        stage("int4", "quantize", "model", "5.31 M parameters, int4, 6.1 MB", 0.7, 0.9, inputs=["dpo"],
              spec={**model, "format": "int4", "weight_bytes": 6_100_000}),
        stage("scores", "evaluate", "scores", "3 measures of 7 models", 24.0, 1.13, inputs=["base", "sft", "dpo", "int8", "int4", "tokens"]),
        stage("hf", "export", "model", made, 0.3, 1.0, inputs=["dpo"], spec=model),
    ]  # fmt: skip
    return ReportData(
        name="quickstart", description="The whole life of a small chat model, from raw text to a served, quantised model",
        started="2026-11-21T09:14:02+00:00", ended="2026-11-21T09:20:11+00:00", stages=stages,
        evaluations=[ScoreSheet(stage="scores", scores=scores().model_dump(mode="json"), samples=samples().model_dump(mode="json"))],
        sources=[SourceRecord(path=f"/data/{name}", bytes=2_400_000, sha256="ab12" * 16) for name in ("stories.txt.gz", "web_pages.jsonl.gz")],
        licenses=[LicenseRecord(name="CDLA-Sharing-1.0", of="stories", url="https://cdla.dev/sharing-1-0/"),
                  LicenseRecord(name="CC-BY-SA-3.0", of="encyclopedia"), LicenseRecord(name="unknown", of=HOSTILE)],
        host={"cpu": "Example CPU 8375C @ 2.90GHz", "cores": 2, "memory_bytes": 8_000_000_000, "system": "Linux 6.1"},
        versions={"arriero": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "tokenizers": "0.22.1"},
        device={"processor": "Example CPU 8375C @ 2.90GHz", "matmul float32": "141 GFLOP/s at best", "copy": "11.2 GB/s"},
        rests_on=["device profile: Example CPU 8375C, 2 threads, measured 2026-11-21 with torch 2.13.0",
                  "power: 8.9 W (5.9 to 13.3), declared: thermal design power over cores",
                  "grid: 480 g/kWh (410 to 550), declared: world mean of 2024",
                  "price: 0.096 USD/h (0.08 to 0.12), declared: 2 vCPU (as of 2026-03-01)"],
        left_out=["downloading the data and writing the recipe", "the machine's own manufacture, and water"],
        command="arriero run recipes/quickstart.yaml",
    )  # fmt: skip


@pytest.fixture(scope="module")
def data() -> ReportData:
    return made_up()


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render(data)


# ---------------------------------------------------------------- the page


class Checker(HTMLParser):
    """Tags balance, ids are unique, and nothing is fetched from outside."""

    VOID = {"meta", "link", "br", "img", "input", "hr"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        assert tag not in ("script", "iframe", "img", "object"), tag
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith(("#", "data:")), (tag, name, value)
            if name == "style":
                assert re.fullmatch(r"((left|top|width):-?[\d.]+%;?)+", value or ""), value

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, text: str) -> None:
        self.text += text


def parse(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert not checker.open and len(set(checker.ids)) == len(checker.ids)
    return checker


def test_page_is_whole_self_contained_and_has_every_section(page: str, data: ReportData) -> None:
    text = parse(page).text
    for heading in ("The road", "Predicted and measured", "Training", "Evaluation", "Samples", "Compression", "Curation",
                    "Where it comes from", "Stages in detail", "Environment", "What it rests on", "What is left out"):  # fmt: skip
        assert heading in text, heading
    for line in data.stages:
        assert line.name in text
    assert (
        not re.search(r"url\((?!#)", page)
        and "@import" not in page
        and "None" not in text
        and "nan" not in text.lower().split()
    )


def test_the_answer_comes_first(page: str) -> None:
    text = " ".join(parse(page).text.split())
    head = text[: text.index("The road")]
    assert (
        "5.31 M parameters" in head and "5.92 min" in head and "bits/byte" in head and "unigram 2.9" in head
    )
    assert "smallest: int4, 6.10 MB" in head and "2 reused from an earlier run" in head


def test_hostile_texts_are_only_text(page: str) -> None:
    assert "<script" not in page
    assert HOSTILE in parse(page).text


def test_every_stage_has_both_sides_and_the_factor(page: str) -> None:
    text = " ".join(parse(page).text.split())
    assert "3.85 min" in text and "planned 3.6 min (2.9–4.5)" in text and "× 1.08" in text
    assert re.search(r'class="factor missed">× 1\.61', page), "a plan that is off by more than 1.5 is marked"


def test_verdicts_never_call_a_winner_inside_the_noise(page: str, data: ReportData) -> None:
    found = Scores.model_validate(data.evaluations[0].scores)
    verdicts = [d for m in found.measures for d in m.differences]
    assert {d.better for d in verdicts} == {True, False, None}, "the made-up run has all three"
    assert page.count('class="chip">in the noise') == sum(d.better is None for d in verdicts)
    assert page.count('class="chip">better') == sum(d.better is True for d in verdicts)


def test_unknown_figures_say_so_and_are_never_zero(data: ReportData) -> None:
    bare = Estimate(seconds=Quantity.exact(3.0, "s", "measured"))
    line = StageLine(name="a", kind="curate", makes="corpus", predicted=Estimate(), measured=bare)
    text = parse(render(ReportData(name="bare", stages=[line]))).text
    assert text.count("unknown") > 10
    assert not re.search(r"\b0(\.0+)? (B|Wh|g|USD|FLOP)\b", text)


@pytest.mark.parametrize("state", ["waiting", "stopped", "failed"])
def test_a_run_that_is_not_there_yet(state: str) -> None:
    lines = [
        StageLine(name="corpus", kind="curate", makes="corpus", state=state, predicted=sheet(3, 1e8, 0, "modelled", 0.5),
                  error="the disk is full" if state == "failed" else None),
        StageLine(name="base", kind="pretrain", makes="model", state="waiting", inputs=["corpus"]),
    ]  # fmt: skip
    text = parse(render(ReportData(name="early", stages=lines))).text
    assert "nothing has run yet" in text and "0 of 2 stages" in text
    assert ("the disk is full" in text) == (state == "failed")


def test_an_empty_run_still_makes_a_page() -> None:
    parse(render(ReportData(name="empty", stages=[])))


def test_damaged_scores_are_one_clear_line(data: ReportData) -> None:
    broken = data.model_copy(update={"evaluations": [ScoreSheet(stage="scores", scores={"format": "x"})]})
    with pytest.raises(DamagedArtifactError, match=r"scores\.json of stage 'scores' cannot be read"):
        render(broken)


def test_written_whole(data: ReportData, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(data, path)
    assert path.read_text(encoding="utf-8") == render(data) and [p.name for p in tmp_path.iterdir()] == [
        "report.html"
    ]


def test_the_same_as_data(data: ReportData) -> None:
    found = json.loads(json.dumps(report_json(data), allow_nan=False))
    base = next(line for line in found["stages"] if line["name"] == "base")
    assert base["measured_over_predicted"]["seconds"] == pytest.approx(1.08)
    assert found["totals"]["measured"]["seconds"]["value"] == pytest.approx(
        sum(s.measured.seconds.value for s in data.stages)
    )
    odd = data.stages[0].model_copy(update={"metrics": [{"step": 1, "loss": float("nan")}]})
    assert report_json(data.model_copy(update={"stages": [odd]}))["stages"][0]["metrics"][0]["loss"] is None


# ---------------------------------------------------------------- its parts


@pytest.mark.parametrize("n", [1, 2, 7, 8, 13, 30])
def test_the_road_has_room_for_any_number_of_stages(n: int) -> None:
    lines = [StageLine(name=f"stage{i}", kind="curate", makes="corpus") for i in range(n)]
    found = road(ReportData(name="long", stages=lines))
    assert len(found.nodes) == n and len(found.pieces) == n - 1
    places = [(node.x, node.y) for node in found.nodes]
    assert all(60 <= x <= found.width - 60 and 60 <= y <= found.height - 60 for x, y in places)
    assert all(math.dist(p, q) > 100 for i, p in enumerate(places) for q in places[:i]), (
        "no two labels collide"
    )


numbers = st.floats(-1e6, 1e6).filter(lambda v: abs(v) > 1e-6)


@given(st.lists(numbers, min_size=1, max_size=8))
def test_scales_hold_what_they_are_made_for(values: list[float]) -> None:
    scale = Scale.over(values)
    assert scale is not None
    places = [scale.at(v) for v in sorted(values)]
    assert places == sorted(places) and places[0] >= 0 and places[-1] <= 100
    assert all(
        scale.low <= t <= scale.high or math.isclose(t, scale.low, rel_tol=1e-6) for t in scale.ticks()
    )


@given(st.lists(st.floats(1e-4, 1e7), min_size=1, max_size=6))
def test_log_scales_have_ticks(values: list[float]) -> None:
    scale = Scale.over(values, log=True)
    assert scale is not None and 1 <= len(scale.ticks(6)) <= 6
    assert all(0 <= scale.at(v) <= 100 for v in values)


def test_scale_of_nothing() -> None:
    assert Scale.over([None, float("nan")]) is None and Scale.over([0.0], log=True) is None


def test_long_curves_are_thinned_to_means() -> None:
    points = [(float(i), float(i % 2)) for i in range(1000)]
    thin = thinned(points, 100)
    assert len(thin) <= 100 and all(0.3 < y < 0.7 for _, y in thin)


def test_units() -> None:
    assert [format_seconds(s) for s in (0.0123, 59.99, 60, 86400 * 3.2, None)] == [
        "12.3 ms",
        "1.00 min",
        "1.00 min",
        "3.20 d",
        "unknown",
    ]
    assert [format_bytes(b) for b in (0, 999.9, 7_412_345)] == ["0 B", "1.00 kB", "7.41 MB"]
    assert [format_money(m) for m in (0.0042, 1.234, 99_999)] == ["0.0042 USD", "1.23 USD", "99,999 USD"]
    assert (
        format_money(8e-6) == "< 0.0001 USD"
        and format_quantity(Quantity.band(8e-6, 0.2, "USD", "declared")) == "< 0.0001 USD"
    )
    assert format_quantity(Quantity.band(192, 0.25, "s", "modelled")) == "3.2 min (2.6–4.0)"
    assert format_quantity(Quantity.exact(192, "s", "measured")) == "3.20 min"
    assert format_quantity(Quantity.exact(6840, "J", "modelled")) == "1.9 Wh"
    assert format_quantity(Quantity.unknown("USD", "no price")) == "unknown"


@given(st.floats(1e-8, 1e12), st.integers(1, 4))
def test_rounding_keeps_the_digits_it_promises(value: float, digits: int) -> None:
    shown = float(round_text(value, digits).replace(",", ""))
    assert abs(shown - value) <= 0.51 * 10 ** (math.floor(math.log10(value)) - digits + 1)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows_in_a_browser(data: ReportData, tmp_path: Path, width: int) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    # headless Chromium's window has a least width, so the page is looked at inside a frame of the width wanted
    report, outer = tmp_path / "report.html", tmp_path / "outer.html"
    write_report(data, report)
    measure = "d=f.contentDocument.documentElement;document.title='wide '+d.scrollWidth+' of '+d.clientWidth"
    outer.write_text(
        f"<body><iframe id=f src=report.html width={width} height=900></iframe><script>f.onload=()=>{{{measure}}}</script>"
    )
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=3000", "--dump-dom", outer.as_uri()],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r"wide (\d+) of (\d+)", done.stdout)
    assert found, done.stderr[-500:]
    assert int(found[1]) <= int(found[2]), f"the page is {found[1]} px wide in {found[2]}"


def test_the_cost_in_pictures(page: str, data: ReportData) -> None:
    text = " ".join(parse(page).text.split())
    pictures = text[text.index("The cost in pictures") :]
    for title in (
        "Where the time of the run went",
        "Peak memory of the stages",
        "capacity 8.00 GB",
        "median error",
    ):
        assert title in pictures
    for line in data.stages:
        assert line.name in pictures
    assert "3.85 min · 65 %" in pictures and "1.10 GB, up to" in pictures and "3.6 min → 3.85 min" in pictures
    assert page.count('class="pc"') == 3
    assert "energy" not in cost_pictures(data)[2].text, "modelled on both sides: no measurement of the plan"


def test_a_run_without_measurements_has_no_pictures() -> None:
    line = StageLine(name="a", kind="curate", makes="corpus", predicted=sheet(3, 1e8, 0, "modelled", 0.5))
    assert cost_pictures(ReportData(name="early", stages=[line])) == []
    assert "The cost in pictures" not in render(ReportData(name="early", stages=[line]))


def test_of_many_stages_the_shortest_share_a_bar() -> None:
    lines = [stage(f"s{i:02d}", "curate", "corpus", "", 10.0 + i, 1.0) for i in range(20)]
    first = cost_pictures(ReportData(name="long", stages=lines))[0]
    assert "10 others" in first.text and "s19" in first.text and "s05" not in first.text
    assert "the run" in first.text and format_seconds(sum(10.0 + i for i in range(20))) in first.text
