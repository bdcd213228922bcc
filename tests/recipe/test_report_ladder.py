"""The ladder's part of the report: the law, a prediction before and after its run, hostile names, damaged files."""

from __future__ import annotations

import pytest

from arriero.errors import ArrieroError
from arriero.evaluation.ladder_result import (
    LawResult,
    PredictionLine,
    ReconciledLine,
    Reconciliation,
    RunLine,
)
from arriero.recipe.report import ReportData
from arriero.recipe.report.data import LadderSheet
from arriero.recipe.report.page import render

HOSTILE = "<script>alert('x')</script>"
NEXT = PredictionLine(
    name="next", parameters=2.4e6, tokens=4e6, loss=3.1, low=3.0, high=3.2, law_low=3.05, law_high=3.15, decades=0.6,
    notes=[HOSTILE],
)  # fmt: skip
LAW = LawResult(
    E=2.0, A=60, B=400, alpha=0.35, beta=0.45, intervals={"E": (1.5, 2.4)}, confidence=0.8, scatter=0.009,
    embeddings=True, draws=100, method="losses", predictions=[NEXT],
    runs=[RunLine(name=HOSTILE, parameters=1e5 * n, tokens=1e6 * n, loss=5 - 0.2 * n, fitted=5.05 - 0.2 * n) for n in range(1, 7)],
)  # fmt: skip
DONE = Reconciliation(
    confidence=0.8,
    lines=[
        ReconciledLine(
            prediction=NEXT, parameters=2.4e6, tokens=4e6, measured=3.131, error=0.01, within=True, made_before=True,
            predicted_at="2026-01-01T10:00:00+00:00", run_started="2026-01-01T10:00:01+00:00",
        )
    ],
)  # fmt: skip


def page(*sheets: LadderSheet) -> str:
    return render(ReportData(name="r", stages=[], ladders=list(sheets)))


def test_a_prediction_waits_and_is_then_reconciled() -> None:
    law = LAW.model_dump(mode="json")
    before = page(LadderSheet(stage="law", law=law))
    assert "L(N, D) = 2 + 60 / N^0.35 + 400 / D^0.45" in before and "next (predicted)" in before
    assert "3.000–3.200" in before and "next: predicted" not in before and "next predicted" in before
    after = page(LadderSheet(stage="law", law=law, reconciliations=[DONE.model_dump(mode="json")]))
    assert "next: predicted 3.100 (3.000–3.200), measured 3.131: +1.00%, inside the interval" in after
    assert "next measured" in after
    for text in (before, after):
        assert HOSTILE not in text and 'src="http' not in text
    assert "Scaling law" not in page()


def test_a_damaged_law_is_refused_in_one_line() -> None:
    with pytest.raises(ArrieroError, match="the law of stage 'law' cannot be read"):
        page(LadderSheet(stage="law", law={"E": "x"}))
