"""A curve in a terminal: a few lines of characters, logarithmic in x unless told otherwise, in y too where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from arriero.evaluation.scale import Scale

Point = tuple[float, float]


def text_plot(
    curves: Mapping[str, Sequence[Point]], *, x_text: Callable[[float], str], y_text: Callable[[float], str],
    level: float | None = None, width: int = 64, height: int = 14, log_y: bool = False, log_x: bool = True,
) -> str:  # fmt: skip
    """The curves as characters, each drawn with its own one-character key; later ones cover earlier ones.

    ``level`` is a y value that gets a dashed line if it lies on the plot. The lowest and highest values name the axes.
    """
    points = [point for curve in curves.values() for point in curve]
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    x = Scale(left, right if right > left else left + (abs(left) * 1e-9 or 1e-9), log=log_x)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    if level is not None and level > high and level - high < high - low:
        high = level  # so near that the reader wants to see how much is missing
    y = Scale(low, high if high > low else low + (abs(low) * 1e-9 or 1e-9), log_y)
    grid = [[" "] * width for _ in range(height)]
    if level is not None and low <= level <= high:
        grid[_row(y, level, height)] = ["-" if column % 2 else " " for column in range(width)]
    for mark, curve in curves.items():
        for at, value in curve:
            grid[_row(y, value, height)][round(x.at(at) / 100 * (width - 1))] = mark
    return "\n".join(_framed(grid, y, level, y_text) + _x_axis(x, x_text, width, len(y_text(high))))


def _row(y: Scale, value: float, height: int) -> int:
    return height - 1 - round(y.at(value) / 100 * (height - 1))


def _framed(
    grid: list[list[str]], y: Scale, level: float | None, y_text: Callable[[float], str]
) -> list[str]:
    named = {0: y_text(y.high), len(grid) - 1: y_text(y.low)}
    if level is not None and y.low <= level <= y.high:
        named[_row(y, level, len(grid))] = y_text(level)
    wide = max(map(len, named.values()))
    return [f"{named.get(number, ''):>{wide}} |{''.join(row).rstrip()}" for number, row in enumerate(grid)]


def _x_axis(x: Scale, x_text: Callable[[float], str], width: int, wide: int) -> list[str]:
    first, middle, last = (
        x_text(x.low),
        x_text((x.low * x.high) ** 0.5 if x.log else (x.low + x.high) / 2),
        x_text(x.high),
    )
    room = width - len(first) - len(last)
    return [" " * wide + " +" + "-" * width, " " * (wide + 2) + first + middle.center(room) + last]
