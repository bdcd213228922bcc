"""Plots as SVG files that stand alone: readable on light and dark, sharp at any size, text that stays text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from arriero.evaluation.scale import Scale

WIDTH, HEIGHT = 560, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 106, 34, 44
_LETTER, _LINE, _GAP, _DODGE = 6.7, 14.0, 9.0, 10.0
COLOURS = ("#6e675d", "#17636b", "#b2562b", "#7b4794", "#5d7016", "#2c66ad", "#a8325e", "#8a6a12")
DARK_COLOURS = ("#a39a8c", "#6cc3c6", "#e0925f", "#c295db", "#b4c462", "#82b1ec", "#ec8bb0", "#dcb95a")
Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A labelled point with its intervals (low, high) on the y axis."""

    label: str
    at: Point
    colour: int
    whisker: tuple[float, float] | None = None
    band: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """A curve; only where ``label`` is not empty is its end named."""

    label: str
    points: Sequence[Point]
    colour: int


@dataclass(frozen=True)
class Label:
    """A name, the point it belongs to and where its text begins, in the picture's units."""

    text: str
    x: float
    y: float
    colour: int
    left: float


@dataclass(frozen=True)
class Chart:
    """What a plot shows, in the units of its axes."""

    title: str
    x_title: str
    y_title: str
    x: Scale
    y: Scale
    x_ticks: Sequence[tuple[float, str]]
    marks: Sequence[Mark] = ()
    lines: Sequence[Line] = ()
    dashes: Sequence[float] = field(default=())
    """x values that get a dashed vertical line"""


def _style() -> str:
    def rules(colours: Sequence[str]) -> str:
        found = (f".pl .c{i}{{stroke:{c}}}.pl .c{i}f{{fill:{c}}}" for i, c in enumerate(colours))
        return "".join(found)

    light = (
        ".pl text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#6e675d;paint-order:stroke;stroke:#fbf9f5;stroke-width:3px}.pl .t{font-weight:600;"
        "font-size:14px;fill:#24211d}.pl .g{stroke:#e3ddd2}.pl .w{stroke:#fffefb}.pl path,.pl polyline{fill:none}" + rules(COLOURS)
    )  # fmt: skip
    dark = (
        ".pl text{fill:#a39a8c;stroke:#161513}.pl .t{fill:#ebe6dd}.pl .g{stroke:#35312c}.pl .w{stroke:#1d1b19}"
        + rules(DARK_COLOURS)
    )
    return f"<style>{light}@media (prefers-color-scheme:dark){{{dark}}}</style>"


def draw(chart: Chart) -> str:
    """The chart as a whole SVG document."""
    placed = _Frame(chart)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pl" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">',
        _style(), f'<text class="t" x="{_LEFT}" y="18">{escape(chart.title)}</text>', *placed.axes(),
        *placed.curves(), *(part for mark in chart.marks for part in placed.mark(mark)), *placed.labels(), "</svg>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


class _Frame:
    """Where everything goes."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.right, self.bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
        self.dodges, self.edges = self._dodges()

    def _dodges(self) -> tuple[dict[str, float], dict[str, float]]:
        """Marks that would stand on one another are put side by side: how far each is moved, and where its
        group ends on the right."""
        moves: dict[str, float] = {}
        edges: dict[str, float] = {}
        places = sorted((self.place(mark.at)[0], number) for number, mark in enumerate(self.chart.marks))
        group: list[tuple[float, int]] = []
        for x, number in [*places, (float("inf"), -1)]:
            if group and x - group[-1][0] >= _DODGE:
                middle = sum(at for at, _ in group) / len(group)
                for place, (at, member) in enumerate(sorted(group, key=lambda item: item[1])):
                    goal = middle + (place - (len(group) - 1) / 2) * _DODGE
                    moves[self.chart.marks[member].label] = goal - at
                    edges[self.chart.marks[member].label] = middle + (len(group) - 1) / 2 * _DODGE
                group = []
            group.append((x, number))
        return moves, edges

    def spot(self, mark: Mark) -> Point:
        """Where a mark is drawn."""
        x, y = self.place(mark.at)
        return round(x + self.dodges[mark.label], 1), y

    def place(self, point: Point) -> Point:
        across, up = self.chart.x.at(point[0]), self.chart.y.at(point[1])
        x = _LEFT + across / 100 * (self.right - _LEFT)
        return round(x, 1), round(self.bottom - up / 100 * (self.bottom - _TOP), 1)

    def axes(self) -> list[str]:
        chart, parts = self.chart, []
        for tick in chart.y.ticks(5):
            _, y = self.place((chart.x.low, tick))
            parts.append(f'<path class="g" d="M{_LEFT} {y:g}H{self.right}"/>')
            parts.append(f'<text x="{_LEFT - 7}" y="{y + 4:g}" text-anchor="end">{tick:g}</text>')
        for tick, text in chart.x_ticks:
            x, _ = self.place((tick, chart.y.low))
            parts.append(f'<path class="g" d="M{x:g} {self.bottom}v4"/>')
            parts.append(f'<text x="{x:g}" y="{self.bottom + 17}" text-anchor="middle">{escape(text)}</text>')
        for at in chart.dashes:
            x, _ = self.place((at, chart.y.low))
            parts.append(f'<path class="g" stroke-width="2" stroke-dasharray="4 4" d="M{x:g} {_TOP}V{self.bottom}"/>')  # fmt: skip
        middle = (_LEFT + self.right) / 2
        parts.append(
            f'<text x="{middle:g}" y="{HEIGHT - 8}" text-anchor="middle">{escape(chart.x_title)}</text>'
        )
        parts.append(
            f'<text x="{self.right}" y="{_TOP - 8}" text-anchor="end">{escape(chart.y_title)}</text>'
        )
        return parts

    def curves(self) -> list[str]:
        clip = f'<clipPath id="pl-area"><rect x="{_LEFT}" y="{_TOP}" width="{self.right - _LEFT}" height="{self.bottom - _TOP}"/></clipPath>'
        lines = []
        for line in self.chart.lines:
            points = " ".join(f"{x:g},{y:g}" for x, y in map(self.place, line.points))
            lines.append(
                f'<polyline class="c{line.colour}" stroke-width="1.5" stroke-linejoin="round" points="{points}"/>'
            )
        return [clip, '<g clip-path="url(#pl-area)">', *lines, "</g>"] if lines else []

    def mark(self, mark: Mark) -> list[str]:
        x, y = self.spot(mark)
        parts = []
        if mark.band is not None:
            low, high = (self.place((mark.at[0], end))[1] for end in mark.band)
            parts.append(f'<path class="c{mark.colour}" stroke-opacity=".28" stroke-width="7" d="M{x:g} {low:g}V{high:g}"/>')  # fmt: skip
        if mark.whisker is not None:
            low, high = (self.place((mark.at[0], end))[1] for end in mark.whisker)
            path = f"M{x:g} {low:g}V{high:g}M{x - 4:g} {low:g}h8M{x - 4:g} {high:g}h8"
            parts.append(f'<path class="c{mark.colour}" stroke-width="1.5" d="{path}"/>')
        parts.append(f'<circle class="c{mark.colour}f w" stroke-width="1.5" cx="{x:g}" cy="{y:g}" r="4.5"/>')
        return parts

    def labels(self) -> list[str]:
        """Names beside their points and line ends, moved up or down where they would cover one another."""
        wanted = [
            Label(mark.label, *self.spot(mark), mark.colour, self.edges[mark.label] + _GAP)
            for mark in self.chart.marks
        ]
        for line in self.chart.lines:
            x, y = self.place(line.points[-1])
            if line.label:
                wanted.append(Label(line.label, x, y, line.colour, x + _GAP))
        parts = []
        for label, y in spread(wanted, _TOP, self.bottom):
            left = label.left
            if abs(y - label.y) > _LINE / 2 or left > label.x + _GAP + 1:
                leader = f"M{label.x + 4:g} {label.y:g}L{left - 1:g} {y:g}"
                parts.append(f'<path class="c{label.colour}" stroke-opacity=".5" d="{leader}"/>')
            parts.append(
                f'<text class="c{label.colour}f" x="{left:g}" y="{y + 4:g}">{escape(label.text)}</text>'
            )
        return parts


def spread(labels: Sequence[Label], top: float, bottom: float) -> list[tuple[Label, float]]:
    """Each label with the height it is put at: a line's height apart from those it shares columns with, in their
    order, moved as little as can be (least squares: isotonic regression by pooling neighbours, whose solution within
    bounds is the free one cut off at them)."""
    found = []
    for group in _columns(labels):
        group.sort(key=lambda label: label.y)
        pools: list[list[float]] = []
        for place, label in enumerate(group):
            pools.append([label.y - place * _LINE, 1])
            while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
                (before, n), (after, m) = pools[-2], pools[-1]
                pools[-2:] = [[(before * n + after * m) / (n + m), n + m]]
        bases = [value for value, count in pools for _ in range(int(count))]
        last = max(top, bottom - (len(group) - 1) * _LINE)
        heights = [round(min(max(base, top), last) + place * _LINE, 1) for place, base in enumerate(bases)]
        found += list(zip(group, heights, strict=True))
    return found


def _columns(labels: Sequence[Label]) -> list[list[Label]]:
    """Labels in groups that share no column of the picture with another group."""
    groups: list[list[Label]] = []
    edge = float("-inf")
    for label in sorted(labels, key=lambda label: label.left):
        if label.left >= edge:
            groups.append([])
        groups[-1].append(label)
        edge = max(edge, label.left + _LETTER * len(label.text))
    return groups
