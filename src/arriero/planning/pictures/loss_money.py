"""What loss money buys: the law's best curve with its band, the models to choose from, and over-training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arriero.cost.units import format_money
from arriero.evaluation.scale import Scale
from arriero.evaluation.text_plot import text_plot
from arriero.planning.pictures.axes import Axes
from arriero.planning.pictures.canvas import MARGIN, WIDTH, Box, Canvas
from arriero.planning.pictures.figures import finite, short
from arriero.planning.pictures.labels import Name, along, name_points
from arriero.planning.pictures.limits import draw_limit
from arriero.planning.pictures.measure import brief, column
from arriero.planning.pictures.picture import TOP, Picture, begin, finish, nothing
from arriero.planning.pictures.table import Row, draw_table, star, table_lines

_HEIGHT = 240.0


@dataclass(frozen=True)
class LossPoint:
    """The loss that so much money buys, nats a token, with the ends of its band where it has one."""

    money: float
    loss: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Choice:
    """A model and its tokens: ``parameters``, ``tokens``, and where they lie; ``best`` is the one proposed."""

    parameters: float
    tokens: float
    at: LossPoint
    best: bool = False

    @property
    def name(self) -> str:
        return f"{short(self.parameters)} on {short(self.tokens)} tokens"


@dataclass(frozen=True)
class OverTraining:
    """One model trained on more and more tokens: money and loss along the way."""

    name: str
    points: Sequence[LossPoint]


def loss_money_picture(
    optimal: Sequence[LossPoint], choices: Sequence[Choice] = (), overtrained: Sequence[OverTraining] = (), *,
    currency: str = "USD", budget: float | None = None, title: str = "Loss and money", name: str = "loss-money",
) -> Picture:  # fmt: skip
    """The compute-optimal curve and its band, choices as points, one dashed line for each over-trained model.

    Args:
        optimal: in any order. budget: money; a line where it lies in the picture.
    """
    curve = sorted((point for point in optimal if _sound(point)), key=lambda point: point.money)
    choices = [choice for choice in choices if _sound(choice.at)]
    lines = [
        (line, sorted((p for p in line.points if _sound(p)), key=lambda p: p.money)) for line in overtrained
    ]
    lines = [(line, points) for line, points in lines if points]
    every = [*curve, *(choice.at for choice in choices), *(point for _, points in lines for point in points)]
    if not every:
        return nothing(name, title, "no loss has a price")
    axes = _axes(every, budget)
    canvas = begin(name, title)
    axes.draw(
        canvas, x_words=short, y_words=lambda value: f"{value:.3g}",
        x_title=f"money for training, {currency}", y_title="loss, nats a token",
    )  # fmt: skip
    _draw_band(canvas, axes, curve)
    drawn = [_draw_curve(canvas, axes, curve, "c1")] if curve else []
    drawn += [_draw_curve(canvas, axes, points, "c2", ' stroke-dasharray="5 4"') for _, points in lines]
    limit, line = draw_limit(canvas, axes, budget, "x", f"budget {format_money(budget or 0.0, currency)}")
    drawn.append(line)
    places = [axes.place((choice.at.money, choice.at.loss)) for choice in choices]
    for choice, place in sorted(zip(choices, places, strict=True), key=lambda pair: pair[0].best):
        if choice.best:
            canvas.path(star(place, 11), "c3f gap", width=1.5)
        else:
            canvas.dot(place, "c1f gap", tip=choice.name, more=' stroke-width="1.5"')
    names = [
        Name(choice.name, place, "inkf", choice.best) for choice, place in zip(choices, places, strict=True)
    ]
    names += [
        Name(line.name, axes.place((points[-1].money, points[-1].loss)), "c2f") for line, points in lines
    ]
    names += limit
    name_points(canvas, sorted(names, key=lambda n: not n.bold), axes.area, places, [p for line in drawn for p in along(line)])  # fmt: skip
    heads, rows = ["", f"money, {currency}", "loss, band", "D/N"], _rows(curve, choices, lines)
    y = draw_table(canvas, axes.area.bottom + 42, heads, rows)
    return finish(
        canvas, title, y + MARGIN, [*_lines(curve, choices, lines, currency), *table_lines(heads, rows)]
    )


_Lines = Sequence[tuple[OverTraining, Sequence[LossPoint]]]


def _sound(point: LossPoint) -> bool:
    return finite(point.money) and finite(point.loss) and point.money > 0


def _axes(points: Sequence[LossPoint], budget: float | None) -> Axes:
    money = [point.money for point in points]
    if budget is not None and finite(budget) and min(money) / 10 <= budget <= max(money) * 10:
        money.append(budget)
    x = Scale.over(money, log=True)
    y = Scale.over([end for p in points for end in (p.loss, p.low, p.high)], margin=0.1)
    assert x is not None and y is not None
    return Axes(Box(MARGIN + 36, TOP + 18, WIDTH - 2 * MARGIN - 40, _HEIGHT), x, y)


def _draw_band(canvas: Canvas, axes: Axes, curve: Sequence[LossPoint]) -> None:
    ends = [(p.money, p.low, p.high) for p in curve if p.low is not None and p.high is not None and finite(p.low) and finite(p.high)]  # fmt: skip
    if len(ends) > 1:
        upper = [axes.place((money, high)) for money, _, high in ends]
        lower = [axes.place((money, low)) for money, low, _ in reversed(ends)]
        canvas.area([*upper, *lower], "c1f", 0.18)


def _draw_curve(
    canvas: Canvas, axes: Axes, points: Sequence[LossPoint], look: str, more: str = ""
) -> list[tuple[float, float]]:  # fmt: skip
    places = [axes.place((point.money, point.loss)) for point in points]
    if len(places) == 1:
        canvas.dot(places[0], f"{look}f")
    else:
        canvas.curve(places, look, more=more)
    return places


def _loss(point: LossPoint) -> str:
    if point.low is None or point.high is None:
        return f"{point.loss:.3f}"
    return f"{point.loss:.3f} ({point.low:.2f}–{point.high:.2f})"


def _rows(curve: Sequence[LossPoint], choices: Sequence[Choice], lines: _Lines) -> list[Row]:
    rows = [
        Row(
            [choice.name, short(choice.at.money), _loss(choice.at), f"{choice.tokens / choice.parameters:,.0f}"],
            3 if choice.best else 1, "star" if choice.best else "dot", letter="*" if choice.best else "o", bold=choice.best,
        )
        for choice in choices
    ]  # fmt: skip
    for end, point in zip(("least", "most"), (curve[0], curve[-1]) if curve else (), strict=False):
        rows.append(
            Row(
                [f"optimal, {end} money", short(point.money), _loss(point)],
                1,
                "line",
                letter="-",
            )
        )
    for line, points in lines:
        rows.append(Row([f"{line.name}, at its end", short(points[-1].money), _loss(points[-1])], 2, "dash", letter="~"))  # fmt: skip
    return rows


def _lines(curve: Sequence[LossPoint], choices: Sequence[Choice], lines: _Lines, currency: str) -> list[str]:
    curves = {
        "~": [(point.money, point.loss) for _, points in lines for point in points],
        "-": [(point.money, point.loss) for point in curve],
        "o": [(choice.at.money, choice.at.loss) for choice in choices],
        "*": [(choice.at.money, choice.at.loss) for choice in choices if choice.best],
    }
    drawn = text_plot(
        {mark: points for mark, points in curves.items() if points},
        x_text=lambda value: brief(f"{short(value)} {currency}", 18), y_text=lambda value: column(f"{value:.3f}", 14, right=True),
        width=60, height=12,
    )  # fmt: skip
    return [f"  {line}" for line in drawn.splitlines()]
