"""Plans by time and money: what can be had, what cannot and why, and the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from arriero.cost.units import format_money, format_seconds
from arriero.evaluation.scale import Scale, time_ticks
from arriero.evaluation.text_plot import text_plot
from arriero.planning.pictures.axes import Axes
from arriero.planning.pictures.canvas import MARGIN, WIDTH, Box, Canvas, Point
from arriero.planning.pictures.figures import finite, short
from arriero.planning.pictures.labels import Name, along, name_points
from arriero.planning.pictures.limits import draw_limit
from arriero.planning.pictures.measure import brief, column
from arriero.planning.pictures.picture import TOP, Picture, begin, finish, nothing
from arriero.planning.pictures.table import Row, draw_table, star, table_lines

_HEIGHT, _CELL = 250.0, 5.0
_LISTED, _NAMED_MISSES = 6, 4
_FEASIBLE, _BEST, _RINGS = 1, 3, (2, 5, 4, 6, 7, 0)
"""Colours: of feasible plans, of the best one, and of the binding limits in turn."""
_LOG_FROM = 8.0
"""From this ratio of the ends on an axis is logarithmic."""


@dataclass(frozen=True)
class PlanPoint:
    """A plan.

    Attributes:
        seconds, money: of the whole run; what is unknown (NaN) cannot be drawn and is counted.
        binding: what it fails at ("memory: logits", "deadline"); empty for a feasible plan.
        front: no other plan beats it in time and money both. best: the plan that is proposed.
    """

    name: str
    seconds: float
    money: float
    binding: str = ""
    front: bool = False
    best: bool = False


def pareto_picture(
    plans: Sequence[PlanPoint], *, currency: str = "USD", deadline: float | None = None, budget: float | None = None,
    counts: dict[str, int] | None = None, unknown: int = 0, title: str = "Plans by time and money", name: str = "plans",
) -> Picture:  # fmt: skip
    """Feasible plans filled, infeasible ones hollow with their binding limit named, the best one a star.

    Args:
        deadline, budget: seconds and money; lines where they lie in the picture.
        counts: how many plans there are by binding limit ("": feasible), where ``plans`` are a choice of them.
        unknown: plans left out because their time or price is unknown.
    """
    drawn = [plan for plan in plans if finite(plan.seconds) and finite(plan.money) and plan.seconds > 0]
    drawn = [plan for plan in drawn if plan.money >= 0]
    if not drawn:
        return nothing(name, title, f"no plan has both a time and a price ({len(plans)} looked at)")
    axes = _axes(drawn, deadline, budget)
    canvas = begin(name, title)
    axes.draw(
        canvas, x_words=lambda value: format_seconds(value, 2).replace(".0 ", " "), y_words=short,
        x_title="time", y_title=f"money, {currency}", x_ticks=time_ticks(axes.x, 6),
    )  # fmt: skip
    late, line = draw_limit(canvas, axes, deadline, "x", f"deadline {format_seconds(deadline, 2)}")
    dear, level = draw_limit(canvas, axes, budget, "y", f"budget {format_money(budget, currency)}")
    front = sorted((plan for plan in drawn if plan.front or plan.best), key=lambda plan: (plan.seconds, -plan.money))  # fmt: skip
    places = _draw_plans(canvas, axes, drawn, front, _colours(drawn))
    stairs = [axes.place((plan.seconds, plan.money)) for plan in front if plan.front]
    name_points(
        canvas,
        [*_names(axes, drawn, front), *late, *dear],
        axes.area,
        places,
        [*along(stairs), *line, *level],
    )
    heads, rows = (
        ["", "time", "money"],
        _rows(drawn, front, currency, counts, unknown + len(plans) - len(drawn)),
    )
    y = draw_table(canvas, axes.area.bottom + 42, heads, rows)
    return finish(canvas, title, y + MARGIN, [*_lines(drawn, front, currency), *table_lines(heads, rows)])


def _axes(plans: Sequence[PlanPoint], deadline: float | None, budget: float | None) -> Axes:
    def scale(values: list[float], limit: float | None) -> Scale:
        low, high = min(values), max(values)
        if limit is not None and finite(limit) and low / 3 <= limit <= high * 3 and limit > 0:
            low, high = min(low, limit), max(high, limit)
        log = low > 0 and high / low > _LOG_FROM
        found = Scale.over([low, high], log=log, margin=0.12)
        assert found is not None
        return found

    area = Box(MARGIN + 42, TOP + 18, WIDTH - 2 * MARGIN - 46, _HEIGHT)
    return Axes(
        area, scale([plan.seconds for plan in plans], deadline), scale([plan.money for plan in plans], budget)
    )


def _colours(plans: Sequence[PlanPoint]) -> dict[str, int]:
    """A colour for each binding limit, the commonest first."""
    kinds = [kind for kind, _ in Counter(plan.binding for plan in plans if plan.binding).most_common()]
    return {kind: _RINGS[place % len(_RINGS)] for place, kind in enumerate(kinds)}


def _draw_plans(
    canvas: Canvas, axes: Axes, plans: Sequence[PlanPoint], front: Sequence[PlanPoint], colours: dict[str, int]
) -> list[Point]:  # fmt: skip
    """Draws one mark for all plans of one kind that would lie on one another; returns where marks are."""
    seen: dict[tuple[object, ...], Point] = {}
    for plan in sorted(plans, key=lambda plan: not plan.binding):
        x, y = axes.place((plan.seconds, plan.money))
        if seen.setdefault((plan.binding, round(x / _CELL), round(y / _CELL)), (x, y)) != (x, y):
            continue
        tip = f"{plan.name}: {plan.binding}" if plan.binding else plan.name
        look = f"c{colours[plan.binding]} paperf" if plan.binding else f"c{_FEASIBLE}f gap"
        faint = ' stroke-width="1.2" stroke-opacity=".75"' if plan.binding else ' fill-opacity=".55"'
        canvas.dot((x, y), look, radius=3.2, tip=tip, more=faint)
    steps = [axes.place((plan.seconds, plan.money)) for plan in front if plan.front]
    if len(steps) > 1:
        canvas.curve(steps, f"c{_FEASIBLE}", width=1.5)
    for plan, (x, y) in zip((plan for plan in front if plan.front), steps, strict=True):
        canvas.dot((x, y), f"c{_FEASIBLE}f gap", radius=4, tip=plan.name)
    best = [axes.place((plan.seconds, plan.money)) for plan in front if plan.best]
    for place in best:
        canvas.path(star(place, 11), f"c{_BEST}f gap", width=1.5)
    return [*seen.values(), *steps, *best]


def _names(axes: Axes, plans: Sequence[PlanPoint], front: Sequence[PlanPoint]) -> list[Name]:
    """The best plan, the ends of the front, and for each binding limit the cheapest plan that it stops."""
    chosen = [plan for plan in front if plan.best]
    ends = [plan for plan in front if plan.front]
    chosen += [plan for plan in (ends[:1] + ends[-1:]) if plan not in chosen]
    names = [
        Name(plan.name, axes.place((plan.seconds, plan.money)), "inkf", plan.best)
        for plan in dict.fromkeys(chosen)
    ]
    misses: dict[str, PlanPoint] = {}
    for plan in sorted(plans, key=lambda plan: plan.money):
        if plan.binding:
            misses.setdefault(plan.binding, plan)
    shown = list(misses.values())[:_NAMED_MISSES]
    return [*names, *(Name(plan.binding, axes.place((plan.seconds, plan.money))) for plan in shown)]


def _rows(
    plans: Sequence[PlanPoint], front: Sequence[PlanPoint], currency: str, counts: dict[str, int] | None, unknown: int
) -> list[Row]:  # fmt: skip
    others = [plan for plan in front if not plan.best]
    if len(others) > _LISTED:
        others = _spread(others, _LISTED)
    rows = []
    for plan in [*(plan for plan in front if plan.best), *others]:
        figures = [format_seconds(plan.seconds), format_money(plan.money, currency)]
        look = Row([plan.name, *figures], _BEST if plan.best else _FEASIBLE, "star" if plan.best else "dot", letter="*" if plan.best else "#", bold=plan.best)  # fmt: skip
        rows.append(look)
    found = counts if counts is not None else Counter(plan.binding for plan in plans)
    if found.get(""):
        rows.append(Row([f"feasible: {found['']:,} plans"], 1, "dot", letter="o"))
    for kind, colour in _colours(plans).items():
        rows.append(Row([f"{kind}: {found.get(kind, 0):,} plans"], colour, "ring", letter="."))
    return [*rows, Row([f"without a time or price: {unknown:,}"])] if unknown else rows


def _spread(plans: Sequence[PlanPoint], most: int) -> list[PlanPoint]:
    """The ends and evenly between them."""
    step = (len(plans) - 1) / (most - 1)
    return [plans[round(place * step)] for place in range(most)]


def _lines(plans: Sequence[PlanPoint], front: Sequence[PlanPoint], currency: str) -> list[str]:
    marks = {
        ".": [plan for plan in plans if plan.binding], "o": [plan for plan in plans if not plan.binding],
        "#": [plan for plan in front if plan.front], "*": [plan for plan in front if plan.best],
    }  # fmt: skip
    lowest = min(max(plan.money, 1e-9) for plan in plans)
    curves = {
        mark: [(plan.seconds, max(plan.money, lowest)) for plan in those]
        for mark, those in marks.items()
        if those
    }
    drawn = text_plot(
        curves, x_text=lambda value: brief(format_seconds(value, 2), 18), y_text=lambda value: column(f"{short(value)} {currency}", 14, right=True),
        log_y=True, width=60, height=12,
    )  # fmt: skip
    return [f"  {line}" for line in drawn.splitlines()]
