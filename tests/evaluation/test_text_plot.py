"""Curves in a terminal: where points come to stand on linear and logarithmic axes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from arriero.evaluation.text_plot import text_plot

positive = st.floats(1e-9, 1e12)


def rows_of(drawn: str, mark: str) -> list[int]:
    return [number for number, line in enumerate(drawn.splitlines()) if mark in line.partition("|")[2]]


def test_on_a_logarithmic_axis_each_power_takes_as_much_room() -> None:
    points = [(1.0, 1.0), (10.0, 10.0), (100.0, 100.0)]
    assert rows_of(text_plot({"o": points}, x_text=str, y_text=str, height=11, log_y=True), "o") == [0, 5, 10]
    assert rows_of(text_plot({"o": points}, x_text=str, y_text=str, height=11), "o") == [0, 9, 10]


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=8), st.booleans())
def test_any_points_are_drawn(points: list[tuple[float, float]], log_y: bool) -> None:
    drawn = text_plot(
        {"o": points}, x_text=lambda value: "x", y_text=lambda value: "y", log_y=log_y, width=40, height=8
    )
    assert len(drawn.splitlines()) == 10 and rows_of(drawn, "o")
    assert all(len(line) <= 43 for line in drawn.splitlines())
