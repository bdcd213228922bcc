"""Colours and lettering of the pictures: one set for light paper, one for dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from arriero.evaluation.svg_plot import COLOURS, DARK_COLOURS

Theme = Literal["auto", "light", "dark"]
"""auto follows the reader's setting; a raster image has to be one or the other."""

_LIGHT = {"paper": "#fbf9f5", "ink": "#24211d", "soft": "#6e675d", "line": "#e3ddd2", "tick": "#968d7d", "bad": "#b0452b", "good": "#2c7a4b"}  # fmt: skip
_DARK = {"paper": "#161513", "ink": "#ebe6dd", "soft": "#a39a8c", "line": "#35312c", "tick": "#8d8577", "bad": "#ea8f70", "good": "#7cc898"}  # fmt: skip
_SHAPES = (
    ".pc{max-width:100%;height:auto}"
    ".pc text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',Arial,sans-serif;"
    "font-variant-numeric:tabular-nums;paint-order:stroke;stroke-width:3px;stroke-linejoin:round}"
    ".pc .b{font-weight:600}.pc path,.pc polyline{fill:none}"
)


def style(theme: Theme) -> str:
    """The style sheet of a picture, as an element."""
    if theme == "auto":
        dark = _rules(_DARK, DARK_COLOURS)
        rules = f"{_rules(_LIGHT, COLOURS)}@media (prefers-color-scheme:dark){{{dark}}}"
    else:
        rules = _rules(_DARK, DARK_COLOURS) if theme == "dark" else _rules(_LIGHT, COLOURS)
    return f"<style>{_SHAPES}{rules}</style>"


def _rules(names: Mapping[str, str], colours: Sequence[str]) -> str:
    """Classes by name (ink, soft ...) and number (c0, c1 ...): plain for strokes, with an f for fills."""
    found = [f".pc text{{stroke:{names['paper']};fill:{names['soft']}}}"]
    found += [f".pc .gap{{stroke:{names['paper']}}}"]
    for name, colour in [*names.items(), *((f"c{number}", colour) for number, colour in enumerate(colours))]:
        found.append(f".pc .{name}{{stroke:{colour}}}.pc .{name}f{{fill:{colour}}}")
    return "".join(found)
