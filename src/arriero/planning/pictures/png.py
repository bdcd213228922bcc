"""Pictures as PNG, rasterised by resvg (a Rust library in one wheel; the extra ``[png]``)."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Literal

from arriero.errors import ArrieroError
from arriero.planning.pictures.picture import Picture

ZOOM = 2.0
"""Pixels of a raster image for each unit of a picture."""
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
    if not _has_fonts():
        raise ArrieroError(
            "PNG files need a font to write with: install one, e.g. the package fonts-dejavu-core"
        )
    return _rastered(picture.svg(theme), zoom)


@lru_cache(maxsize=1)
def _has_fonts() -> bool:
    """Without a font resvg leaves texts out and says nothing."""
    return _rastered(_LETTERS, 1.0) != _rastered(_LETTERS.replace("mW", ""), 1.0)


def _rastered(svg: str, zoom: float) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=zoom))
