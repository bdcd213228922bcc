"""Plots: labels never cover each other, any text is escaped, every mark is in the picture."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

from hypothesis import example, given
from hypothesis import strategies as st

from arriero.evaluation.scale import Scale
from arriero.evaluation.svg_plot import HEIGHT, WIDTH, Chart, Label, Line, Mark, draw, spread

SVG = "{http://www.w3.org/2000/svg}"
POSITIONS = st.tuples(st.floats(50, 460), st.floats(40, 290))


@example([(50.0, 40.0)] * 4 + [(50.0, 286.0)])
@example([(50.0, 290.0)] * 4 + [(50.0, 40.0)])
@given(st.lists(POSITIONS, min_size=1, max_size=9))
def test_labels_in_one_column_never_cover_each_other(positions: list[tuple[float, float]]) -> None:
    labels = [Label("llama", x, y, 1, x + 9) for x, y in positions]
    found = spread(labels, 34, 296)
    assert sorted(map(id, labels)) == sorted(id(label) for label, _ in found)
    for (a, first), (b, second) in combinations(found, 2):
        if abs(a.left - b.left) < 5 * 6.7:
            assert abs(first - second) >= 13.9
            assert (first < second) == (a.y < b.y) or a.y == b.y, "their order is kept"
    assert all(30 <= y <= 300 for _, y in found)


def test_a_label_with_room_stays_where_its_point_is() -> None:
    labels = [Label("a", 60, 100, 0, 69), Label("b", 60, 130, 0, 69)]
    assert [y for _, y in spread(labels, 34, 296)] == [100, 130]


def test_a_chart_is_well_formed_and_whole() -> None:
    hostile = "<script>&\"'"
    marks = [
        Mark(hostile, (100.0, 2.0), 1, (1.9, 2.1), (1.8, 2.2)),
        Mark("b", (100.0, 2.05), 2, None, (1.9, 2.1)),
        Mark("c", (1.0, 1.8), 0),
    ]
    line = Line("d", [(1.0, 2.2), (10.0, 2.0), (100.0, 1.9)], 3)
    x, y = Scale.over([1, 100], log=True), Scale.over([1.8, 2.2])
    assert x is not None and y is not None
    text = draw(Chart("title", "x", "y", x, y, [(10.0, "10")], marks, [line], [10.0]))
    root = ElementTree.fromstring(text)
    assert {hostile, "b", "c", "d", "title", "10"} <= {node.text for node in root.iter(f"{SVG}text")}
    circles = [(float(n.get("cx", 0)), float(n.get("cy", 0))) for n in root.iter(f"{SVG}circle")]
    assert len(set(circles)) == 3 and all(0 < cx < WIDTH and 0 < cy < HEIGHT for cx, cy in circles)
    assert abs(circles[0][0] - circles[1][0]) >= 9, "marks of one x stand side by side"
    assert "prefers-color-scheme:dark" in text
