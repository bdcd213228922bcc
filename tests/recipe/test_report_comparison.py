"""The comparison's part of the report, on made-up figures with hostile names."""

from __future__ import annotations

import re

import pytest

from arriero.errors import DamagedArtifactError
from arriero.evaluation.compare_result import Comparison, CurvePoint, Family, Figure, Run
from arriero.evaluation.compare_verdicts import verdict
from arriero.recipe.report import ReportData, StageLine, report_json
from arriero.recipe.report.data import ComparisonSheet
from arriero.recipe.report.page import render

HOSTILE = "<script>alert('x')</script>"


def family(name: str, kind: str, value: float, seconds: float) -> Family:
    exact = kind == "ngram"
    curve = [
        CurvePoint(tokens=t, cpu_seconds=seconds * t / 1e6, bits_per_byte=value + 1e5 / t)
        for t in (1e5, 5e5, 1e6)
    ]
    figure = Figure(
        value=value,
        seeds=None if exact else (value - 0.01, value + 0.01),
        documents=(value - 0.05, value + 0.05),
    )
    run = Run(
        name=name,
        seed=1,
        bits_per_byte=value,
        tokens=1e6,
        cpu_seconds=seconds,
        stage_cpu_seconds=seconds,
        mixture_weight=None if exact else 0.25,
        curve=[] if exact else curve,
    )
    return Family(
        name=name, family=kind, year=1998 if exact else 2012, paper="A paper", n_parameters=1000, cpu_seconds=seconds,
        tokens=1e6, equal_time=figure, mixture=None if exact else figure, runs=[run],
    )  # fmt: skip


def comparison(name: str = "lstm") -> Comparison:
    apart = Figure(value=-0.1, seeds=(-0.12, -0.08), documents=(-0.11, -0.09))
    noisy = Figure(value=-0.1, seeds=(-0.3, 0.1), documents=(-0.11, -0.09))
    return Comparison(
        confidence=0.95, bootstrap_samples=200, split="validation", documents=10, bytes=1234, tuning_documents=10,
        tokens_compared=1_000_000, ngram="ngram-5",
        families=[family("ngram-5", "ngram", 2.2, 4.0), family(name, "lstm", 2.1, 100.0)],
        verdicts=[verdict("equal_time", name, "ngram-5", noisy, "ngram-5"), verdict("mixture", name, "ngram-5", apart, "ngram-5")],
        notes=["A note."],
    )  # fmt: skip


def data(found: Comparison) -> ReportData:
    return ReportData(
        name="evolution",
        stages=[StageLine(name="comparison", kind="compare", makes="comparison")],
        comparisons=[ComparisonSheet(stage="comparison", comparison=found.model_dump(mode="json"))],
    )


def test_page_shows_views_verdicts_plots_and_table() -> None:
    page = render(data(comparison()))
    for text in (
        "at equal time",
        "mixed with the n-gram",
        "in the noise",
        "Against cost",
        "Against the year of the paper",
        "On the way: against tokens",
        "Best at equal time · lstm",
        "2.100",
        "lstm mixed with ngram-5 2.100",
        "share beside ngram-5",
        "0.25",
        "A note.",
    ):
        assert text in page, text
    assert page.count("<svg") >= 4 and "at equal tokens" not in page, "there are no figures of that view"
    assert (
        len(re.findall(r'<li class="better"', page)) == 1 and len(re.findall(r'<li class="even"', page)) == 1
    )
    assert report_json(data(comparison()))["comparisons"][0]["comparison"]["ngram"] == "ngram-5"


def test_names_are_escaped_in_html_and_plots() -> None:
    assert HOSTILE not in render(data(comparison(HOSTILE)))


def test_a_damaged_comparison_is_named() -> None:
    broken = data(comparison())
    broken.comparisons[0].comparison.pop("families")
    with pytest.raises(DamagedArtifactError, match=r"comparison.json of stage 'comparison'.*families"):
        render(broken)
