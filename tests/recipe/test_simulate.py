"""`arriero simulate`: the table, the plot, the data, the picture, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from arriero.evaluation.text_plot import text_plot


def test_the_whole_report_and_its_picture(arriero: Any, tmp_path: Path) -> None:
    picture = tmp_path / "curve.svg"
    text = arriero("simulate", "--target", "0.9", "--svg", picture).stdout
    for part in ("16,384 devices for 54 days", "effective training time", "Young 1974", "Daly 2006", "What reaches 90 %?",
                 "an interval from", "a restart of", "The frontier", "What this rests on", "2407.21783", "closed form"):  # fmt: skip
        assert part in text, part
    found = ElementTree.parse(picture).getroot()
    words = [element.text for element in found.iter() if element.tag.endswith("text")]
    assert {"Effective training time", "simulated", "closed form", "target", "taken"} <= set(words)


def test_data_of_an_own_cluster(arriero: Any) -> None:
    told = arriero("simulate", "--devices", 100, "--days", 10, "--failures-per-device-hour", "1e-3", "--interval", "10 min",
                   "--restart", "5 min", "--restart-spread", 0, "--planned-per-day", 0, "--trials", 50, "--json").stdout  # fmt: skip
    data = json.loads(told)
    assert data["settings"]["interval"] == 600 and data["restart"] == 300 and data["mtbf"] == 36000
    assert data["effective"]["low"] <= data["effective"]["mean"] <= data["effective"]["high"]
    assert abs(data["effective"]["mean"] - data["closed_form"]) < 0.01
    assert data["answers"]["target"] == 0.95 and data["intervals"]["chosen"] == 600


def test_help_teaches_and_mistakes_get_one_line(arriero: Any, tmp_path: Path) -> None:
    told = arriero("simulate", "--help").stdout
    assert (
        "--checkpoint" not in told
        and "--interval" in told
        and "Llama 3" in told
        and "[default: 16384]" in told
    )
    assert "did you mean 'h100'" in arriero("simulate", "--gpu", "h101", code=2).stderr
    assert "'devices'" in arriero("simulate", "--devices", "many", code=2).stderr
    assert "--devices" in arriero("simulate", "--device", 8, code=2).stderr
    assert (
        "cannot write"
        in arriero("simulate", "--trials", 2, "--svg", tmp_path / "no" / "x.svg", code=2).stderr
    )


def test_a_text_plot_has_its_points_level_and_axes() -> None:
    drawn = text_plot(
        {".": [(1, 0), (100, 10)], "o": [(10, 5)]}, x_text=lambda x: f"{x:g} s", y_text=lambda y: f"{y:g}",
        level=11, width=21, height=12,
    ).splitlines()  # fmt: skip
    assert drawn[0].startswith("11 | - -") and drawn[11].strip().startswith("0 |.")
    assert [line.index("o") for line in drawn if "o" in line] == [4 + 10]
    assert drawn[-1].split() == ["1", "s", "10", "s", "100", "s"]


def test_a_flat_curve_is_drawn_too() -> None:
    assert "o" in text_plot({"o": [(1, 1.0), (10, 1.0)]}, x_text=str, y_text=str, level=0.5)
