"""The comparison's plots: bits per byte against cost, against year, and on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arriero.evaluation.compare_result import Comparison, CurvePoint, Family
from arriero.evaluation.scale import Scale
from arriero.evaluation.svg_plot import COLOURS, Chart, Line, Mark, draw

Y_TITLE = "bits per byte, lower is better"
_ABOVE_THE_END = 1.0
"""Curves are cut this many bits per byte above the worst end: the first steps would flatten all the rest."""


@dataclass(frozen=True)
class Plot:
    """A drawn plot; ``name`` is its file's."""

    name: str
    title: str
    svg: str


def comparison_plots(found: Comparison) -> list[Plot]:
    """All plots that the comparison has figures for."""
    charts = {
        "cost": _against(found, "Against cost", "CPU seconds of training", _cost, log=True),
        "year": _against(
            found, "Against the year of the paper", "year", lambda f: f.year, log=False
        ),
        "time_curves": _curves(
            found,
            "On the way: against time",
            "CPU seconds of training",
            lambda p: p.cpu_seconds,
            _seconds,
            None,
        ),
        "token_curves": _curves(
            found, "On the way: against tokens", "training tokens", lambda p: p.tokens, short_count, found.tokens_compared
        ),
    }  # fmt: skip
    return [
        Plot(name, chart.title, draw(chart).replace("pl-area", f"pl-{name}"))
        for name, chart in charts.items()
        if chart is not None
    ]


def _cost(family: Family) -> float | None:
    return family.cpu_seconds if family.cpu_seconds > 0 else None


def _seconds(value: float) -> str:
    return f"{value:g}"


def short_count(value: float) -> str:
    """ "2 M", "500 k", "40"."""
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def colours(families: Sequence[Family]) -> dict[str, int]:
    """A colour's number for every family: all n-gram models grey, the others in turn."""
    nets = [family.name for family in families if family.family != "ngram"]
    return {
        family.name: 1 + nets.index(family.name) % (len(COLOURS) - 1) if family.name in nets else 0
        for family in families
    }


def _against(
    found: Comparison, title: str, x_title: str, of: Callable[[Family], float | None], *, log: bool
) -> Chart | None:
    """Finished models with their intervals over one figure of their family."""
    chosen = [(family, at) for family in found.families if (at := of(family)) is not None]
    numbers = colours(found.families)
    marks = [
        Mark(
            family.name,
            (at, family.equal_time.value),
            numbers[family.name],
            family.equal_time.seeds,
            family.equal_time.documents,
        )
        for family, at in chosen
    ]
    x = Scale.over([value for _, value in chosen], log=log)
    y = Scale.over(
        [v for m in marks for ends in (m.whisker, m.band) if ends for v in ends] + [m.at[1] for m in marks]
    )
    if x is None or y is None:
        return None
    ticks = [(tick, f"{tick:g}") for tick in x.ticks(6) if log or tick == int(tick)]
    return Chart(title, x_title, Y_TITLE, x, y, ticks, marks)


def _curves(
    found: Comparison,
    title: str,
    x_title: str,
    of: Callable[[CurvePoint], float],
    text: Callable[[float], str],
    dash: float | None,
) -> Chart | None:
    """Held-out curves of every run over time or tokens."""
    numbers, lines = colours(found.families), []
    for family in found.families:
        for place, run in enumerate(family.runs):
            points = [(of(point), point.bits_per_byte) for point in run.curve if of(point) > 0]
            if len(points) > 1:
                lines.append(Line(family.name if place == 0 else "", points, numbers[family.name]))
    x = Scale.over([point[0] for line in lines for point in line.points], log=True)
    if x is None:
        return None
    worst = max(line.points[-1][1] for line in lines)
    y = Scale.over(
        [v for line in lines for _, v in line.points if v <= worst + _ABOVE_THE_END] + [worst + 0.1]
    )
    if y is None:
        return None
    ticks = [(tick, text(tick)) for tick in x.ticks(6)]
    return Chart(title, x_title, Y_TITLE, x, y, ticks, lines=lines, dashes=[dash] if dash else [])
