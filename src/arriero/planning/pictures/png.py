"""Pictures as PNG, rasterised by resvg (a Rust library in one wheel; the extra ``[png]``)."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Literal

from arriero.errors import ArrieroError
from arriero.planning.pictures.picture import Picture

ZOOM = 2.0
"""Pixels of a raster image for each unit of a picture."""
_FAMILIES = (
    "Arial", "Helvetica", "DejaVu Sans", "Liberation Sans", "Noto Sans", "Open Sans", "Ubuntu", "Roboto", "Cantarell",
    "Segoe UI", "Verdana", "FreeSans",
)  # fmt: skip
_LETTERS = '<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20"><text x="0" y="15" font-family="sans-serif">mW</text></svg>'


def png_available() -> bool:
    """Whether the library for PNG is installed."""
    return importlib.util.find_spec("resvg_py") is not None


def png(picture: Picture, theme: Literal["light", "dark"] = "light", *, zoom: float = ZOOM) -> bytes:
    """The picture as a PNG file's bytes.

    Raises:
        ArrieroError: the library is not installed, or this machine has no font to write with.
    """
    if not png_available():
        raise ArrieroError(
            'PNG files need the library resvg-py: `pip install "arriero[png]"`; SVG files need nothing'
        )
    family = _sans_family()
    if family is None:
        raise ArrieroError(
            "PNG files need a font to write with: install one, e.g. the package fonts-dejavu-core"
        )
    return _rastered(picture.svg(theme), zoom, family)


@lru_cache(maxsize=1)
def _sans_family() -> str | None:
    """A family of fonts that is installed; without one resvg leaves texts out and says nothing. It takes sans-serif for
    Arial unless it is told otherwise."""
    blank = _LETTERS.replace("mW", "")
    return next(
        (name for name in _FAMILIES if _rastered(_LETTERS, 1.0, name) != _rastered(blank, 1.0, name)), None
    )


def _rastered(svg: str, zoom: float, family: str) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=zoom, sans_serif_family=family))
