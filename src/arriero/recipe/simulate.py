"""The command ``arriero simulate``: its options from the cluster's settings, its tables and plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.cost.cluster import Cluster
from arriero.cost.cluster_answers import Answers, Window
from arriero.cost.cluster_report import ClusterReport, cluster_report
from arriero.cost.cluster_simulate import Band
from arriero.cost.units import format_seconds
from arriero.errors import ArrieroError
from arriero.evaluation.scale import Scale
from arriero.evaluation.svg_plot import Chart, Line, Mark, draw
from arriero.evaluation.text_plot import text_plot
from arriero.recipe.command import given_settings, setting_options

_SHARES = {
    "lost": "work that a failure undid", "checkpoints": "stopped for checkpoints",
    "restarts": "down after failures", "planned": "planned stops",
}  # fmt: skip


def simulate_options() -> list[click.Option]:
    """One option per setting of the cluster."""
    return setting_options(Cluster)


def simulate_cluster(values: dict[str, Any], *, console: Console, as_json: bool, svg: Path | None) -> None:
    """Simulate what the options describe and print it.

    Raises:
        ArrieroError: a setting that makes no sense, or a picture that cannot be written.
    """
    report = cluster_report(Cluster.of(given_settings(Cluster, values)))
    if svg is not None:
        try:
            svg.write_text(draw(chart(report)), encoding="utf-8")
        except OSError as error:
            raise ArrieroError(f"cannot write {svg}: {error.strerror or error}") from None
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        print_report(report, console)


def print_report(report: ClusterReport, console: Console) -> None:
    """The whole report as text."""
    cluster = report.cluster
    failing = f"one failure every {format_seconds(cluster.mtbf)}" if cluster.rate else "no failures"
    console.print(f"[bold]{cluster.devices:,} devices for {cluster.days:g} days[/]: {failing} is expected\n")
    console.print(_outcome(report))
    console.print(_intervals(report))
    console.print(_plot(report), markup=False, highlight=False)
    for line in _answer_lines(report):
        console.print(line)
    console.print(_frontier(report.answers))
    console.print(_assumptions(report))


def _table(*columns: str, title: str = "") -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=title or None,
        title_justify="left",
        title_style="bold",
    )
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _row(table: Table, name: str, band: Band, text: Any = _percent, closed: str = "") -> None:
    table.add_row(name, text(band.mean), f"{text(band.low)} to {text(band.high)}", closed)


def _outcome(report: ClusterReport) -> Table:
    table = _table("", "mean", "80 % of the runs", "closed form")
    _row(table, "[bold]effective training time[/]", report.effective, closed=_percent(report.closed_form))
    for name, label in _SHARES.items():
        _row(table, f"  {label}", report.shares[name])
    _row(table, f"goodput (a step takes {report.slowdown:.3f} times as long: stragglers)", report.goodput)
    expected = f"{report.cluster.expected_failures:.4g}"
    _row(table, "failures", report.failures, lambda value: f"{value:,.0f}", expected)
    if len(report.failures_by_kind) > 1:
        for kind, band in report.failures_by_kind.items():
            share = report.cluster.expected_failures * report.cluster.kinds[kind]
            _row(table, f"  {kind}", band, lambda value: f"{value:,.0f}", f"{share:.3g}")
    return table


def _intervals(report: ClusterReport) -> Table:
    found = report.intervals
    table = _table("checkpoint interval", "", "why")
    table.columns[2].justify = "left"
    own = "given" if report.cluster.interval is not None else "the best of the closed form"
    for name, value, why in (
        ("taken", found.chosen, own), ("best, closed form", found.best, "exact optimum of Daly's model, within the run"),
        ("best, simulated", found.best_simulated, "best point of the curve below; it is flat there"),
        ("Young 1974", found.young, "first order"), ("Daly 2006", found.daly, "higher order"),
    ):  # fmt: skip
        table.add_row(f"  {name}", _duration(value), why)
    return table


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "none"
    return "any" if seconds == float("inf") else format_seconds(seconds)


def _plot(report: ClusterReport) -> str:
    drawn = text_plot(
        {
            ".": [(point.interval, point.closed_form) for point in report.curve],
            "o": [(point.interval, point.effective.mean) for point in report.curve],
        },
        x_text=format_seconds, y_text=lambda share: f"{100 * share:.1f} %", level=report.answers.target,
    )  # fmt: skip
    return f"\neffective training time against checkpoint interval (o simulated, . closed form, - target)\n{drawn}\n"


def _answer_lines(report: ClusterReport) -> list[str]:
    found, cluster = report.answers, report.cluster
    goal, own = f"{100 * found.target:g} %", _duration(cluster.restart_seconds)
    window = found.window
    if window.shortest is None:
        by_interval = f"no interval: the best one gives {_percent(window.best_share)}"
    else:
        by_interval = f"an interval from {_duration(window.shortest)} to {_duration(window.longest)}"
    lines = [f"[bold]What reaches {goal}?[/]", f"  With this restart ({own}): {by_interval}."]
    named = (
        ("this", report.intervals.chosen, found.restart_at_chosen),
        ("the best", report.intervals.best, found.restart_at_best),
    )
    for name, interval, restart in named:
        told = "no restart is short enough" if restart is None else "any restart" if restart >= cluster.horizon else (
            f"a restart of {_duration(restart)} or less")  # fmt: skip
        lines.append(f"  With {name} interval ({_duration(interval)}): {told}.")
    if report.at_answer is not None:
        band = report.at_answer
        lines.append(
            f"  Simulated there: {_percent(band.mean)} ({_percent(band.low)} to {_percent(band.high)})."
        )
    return [*lines, ""]


def _frontier(found: Answers) -> Table:
    goal = f"{100 * found.target:g} %"
    table = _table(
        "restart", "best effective time", f"intervals that reach {goal}", title="The frontier (closed form)"
    )
    for window in found.frontier:
        table.add_row(_duration(window.restart), _percent(window.best_share), _span(window))
    return table


def _span(window: Window) -> str:
    if window.shortest is None:
        return "none"
    return f"{_duration(window.shortest)} to {_duration(window.longest)}"


def _assumptions(report: ClusterReport) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title="\nWhat this rests on",
        title_justify="left",
        title_style="bold",
    )
    for name in ("figure", "value", "basis", "who said so"):
        table.add_column(name, overflow="fold")
    for item in report.assumptions:
        table.add_row(item.name, item.value, item.basis, escape(item.source))
    return table


def chart(report: ClusterReport) -> Chart:
    """Effective time against the interval: simulated and closed form, with the chosen interval and its 80 % interval."""
    curve = report.curve
    target = 100 * report.answers.target
    shares = [
        100 * value
        for point in curve
        for value in (point.effective.low, point.effective.high, point.closed_form)
    ]
    x = Scale.over((point.interval for point in curve), log=True)
    y = Scale.over([*shares, target])
    assert x is not None and y is not None
    ends = [(curve[0].interval, target), (curve[-1].interval, target)]
    band = report.effective
    taken = Mark(
        "taken", (report.intervals.chosen, 100 * band.mean), 2, whisker=(100 * band.low, 100 * band.high)
    )  # fmt: skip
    ticks = [curve[0].interval, (curve[0].interval * curve[-1].interval) ** 0.5, curve[-1].interval]
    return Chart(
        title="Effective training time", x_title="checkpoint interval", y_title="per cent of the wall clock", x=x, y=y,
        x_ticks=[(value, format_seconds(value, 2)) for value in ticks], marks=[taken],
        lines=[
            Line("simulated", [(point.interval, 100 * point.effective.mean) for point in curve], 1),
            Line("closed form", [(point.interval, 100 * point.closed_form) for point in curve], 3),
            Line("target", ends, 4),
        ],
    )  # fmt: skip
