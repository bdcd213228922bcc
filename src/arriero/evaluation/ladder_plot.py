"""The ladder as a picture: loss against compute, with the law, its predictions and what became of them."""

from __future__ import annotations

from arriero.cost.scaling.law import TRAINING_FLOPS, ParametricLaw
from arriero.cost.units import format_flops
from arriero.evaluation.ladder_result import LawResult, Reconciliation
from arriero.evaluation.scale import Scale
from arriero.evaluation.svg_plot import Chart, Line, Mark, draw

_RUN, _LAW, _PREDICTED, _MEASURED = 0, 1, 2, 3
_POINTS = 60


def law_plot(law: LawResult, found: Reconciliation | None = None) -> str:
    """An SVG: runs as dots, the best that the law gives for each compute as a line, predictions with their intervals."""
    marks = [Mark(run.name, (_flops(run.parameters, run.tokens), run.loss), _RUN) for run in law.runs]
    for line in law.predictions:
        place = (_flops(line.parameters, line.tokens), line.loss)
        marks.append(Mark(f"{line.name} predicted", place, _PREDICTED, whisker=(line.low, line.high)))
    for done in found.lines if found is not None else ():
        place = (_flops(done.parameters, done.tokens), done.measured)
        marks.append(Mark(f"{done.prediction.name} measured", place, _MEASURED))
    x = Scale.over([mark.at[0] for mark in marks], log=True)
    assert x is not None, "a ladder has runs"
    fit = ParametricLaw(law.E, law.A, law.B, law.alpha, law.beta)
    best = [(flops, fit.optimal(flops).loss or 0.0) for flops in _steps(x)]
    heights = [mark.at[1] for mark in marks] + [end for mark in marks if mark.whisker for end in mark.whisker]
    y = Scale.over([*heights, *(loss for _, loss in best)])
    assert y is not None
    return draw(
        Chart(
            "Held-out loss against training compute", "training compute, 6 N D", "nats a token", x, y,
            [(tick, format_flops(tick, 1)) for tick in x.ticks(5)], marks, [Line("best split", best, _LAW)],
        )
    )  # fmt: skip


def _flops(parameters: float, tokens: float) -> float:
    return TRAINING_FLOPS * parameters * tokens


def _steps(x: Scale) -> list[float]:
    return [x.low * (x.high / x.low) ** (i / (_POINTS - 1)) for i in range(_POINTS)]
