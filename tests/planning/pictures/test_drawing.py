"""The parts that pictures are drawn with: widths of texts, labels, tables, files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.evaluation.scale import Scale, time_ticks
from arriero.planning.pictures import Picture, RankMemory, memory_picture, png, write_pictures, written_words
from arriero.planning.pictures import png as png_of
from arriero.planning.pictures.axes import ticks
from arriero.planning.pictures.canvas import Box, Canvas
from arriero.planning.pictures.labels import Name, name_points
from arriero.planning.pictures.measure import cells, clean, column, fitted, text_width

place = st.tuples(st.floats(60, 420), st.floats(60, 280))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), place), max_size=12), st.lists(place, max_size=20))
def test_names_cover_neither_each_other_nor_leave_their_area(
    wanted: list[tuple[str, tuple[float, float]]], marks: list[tuple[float, float]]
) -> None:
    area = Box(50, 50, 380, 240)
    boxes = name_points(
        Canvas("t"), [Name(text, at) for text, at in wanted], area, [at for _, at in wanted] + marks
    )
    assert all(area.holds(box) for box in boxes)
    assert not any(a.meets(b) for a, b in combinations(boxes, 2))


def test_marks_on_one_another_share_a_name() -> None:
    canvas = Canvas("t")
    name_points(canvas, [Name(text, (100.0, 100.0)) for text in "abc"], Box(0, 0, 400, 300), [(100.0, 100.0)])
    assert ">a +2<" in "".join(canvas.parts)


@given(st.text(max_size=80), st.floats(10, 300))
def test_fitted_texts_fit_and_short_ones_stay(text: str, room: float) -> None:
    shown = fitted(text, room, 11)
    assert text_width(shown, 11) <= max(room, text_width("…", 11))
    assert shown == clean(text) if text_width(clean(text), 11) <= room else shown.endswith("…")


@given(st.text(max_size=80), st.integers(1, 40), st.booleans())
def test_columns_are_as_wide_as_they_say(text: str, width: int, right: bool) -> None:
    assert cells(column(text, width, right=right)) == width


@given(st.floats(1e-12, 1e15), st.floats(1.0, 1e12), st.integers(2, 7))
def test_ticks_are_few_and_inside(low: float, ratio: float, most: int) -> None:
    for log in (True, False):
        scale = Scale.over([low, low * ratio], log=log)
        assert scale is not None
        for found in (ticks(scale, most), time_ticks(scale, most)):
            assert len(found) <= most + 2
            assert all(scale.low * (1 - 1e-6) - 1e-12 <= tick <= scale.high * (1 + 1e-6) for tick in found)


def demo(name: str = "memory") -> Picture:
    return memory_picture([RankMemory("rank 0", {"weights": 5e9, "logits": 2e9}, 1e9)], 1e10, name=name)


def test_pictures_are_written_with_their_text_twin(tmp_path: Path) -> None:
    written = write_pictures(tmp_path / "new", [demo(), demo("second one")], with_png=False)
    assert [path.name for path in written] == ["memory.svg", "memory.txt", "second-one.svg", "second-one.txt"]
    assert (tmp_path / "new" / "memory.txt").read_text() == demo().text + "\n"
    with pytest.raises(ArrieroError, match="two pictures have the name 'memory'"):
        write_pictures(tmp_path, [demo(), demo()])
    (tmp_path / "file").write_text("")
    with pytest.raises(ArrieroError, match="could not be written"):
        write_pictures(tmp_path / "file" / "sub", [demo()], with_png=False)


def test_png_without_its_library_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arriero.planning.pictures import png as module_function
    from arriero.planning.pictures import write as write_module

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ArrieroError, match=r"pip install \"arriero\[png\]\""):
        module_function(demo())
    assert not [path for path in write_pictures(tmp_path, [demo()]) if path.suffix == ".png"]
    assert (
        written_words(tmp_path, [])
        == f'0 files of pictures in {tmp_path}; PNG files too with `pip install "arriero[png]"`'
    )
    with pytest.raises(ArrieroError, match="resvg-py"):
        write_module.write_pictures(tmp_path, [demo()], with_png=True)


def test_png_is_of_twice_the_size_and_dark_differs(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    light, dark = png(demo()), png_of(demo(), "dark")
    for data in (light, dark):
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(data[16:20]) == 880 and int.from_bytes(data[20:24]) in range(int(2 * demo().height) - 1, int(2 * demo().height) + 2)  # fmt: skip
    assert light != dark
    names = [path.name for path in write_pictures(tmp_path, [demo()], with_png=True)]
    assert names == ["memory.svg", "memory.txt", "memory.png", "memory-dark.png"]


@pytest.mark.browser
def test_texts_are_no_wider_in_a_browser_than_thought(
    tmp_path: Path, words: Callable[[Picture], str]
) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    sample = [
        "61.2 GiB, up to 66.0",
        "FFN up product +2",
        "1 B on 20 B tokens",
        "median error 11 %",
        "MWmw@%—…→±× 0.001 µs",
    ]
    svg = "".join(f'<text x="0" y="20" font-size="11">{text}</text>' for text in sample)
    script = (
        "document.title='wide '+[...document.querySelectorAll('text')].map(t=>t.getBBox().width).join(' ')"
    )
    page = tmp_path / "page.html"
    page.write_text(f"<body>{demo().svg().replace('</svg>', svg + '</svg>')}<script>{script}</script>")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000",
         "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "wide " in done.stdout, done.stderr[-500:]
    widths = [float(w) for w in done.stdout.split("wide ")[1].split("<")[0].split()][-len(sample) :]
    assert all(wide <= text_width(text, 11) for wide, text in zip(widths, sample, strict=True))
