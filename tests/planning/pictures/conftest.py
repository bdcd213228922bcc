"""Where the texts of a picture lie, read from the SVG itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from xml.etree import ElementTree

import pytest

from arriero.planning.pictures import Picture
from arriero.planning.pictures.canvas import Box, text_box
from arriero.planning.pictures.measure import cells

SVG = "{http://www.w3.org/2000/svg}"


def read_texts(picture: Picture) -> list[tuple[str, Box]]:
    """Every text with the box that it takes."""
    found = []
    for node in ElementTree.fromstring(picture.svg()).iter(f"{SVG}text"):
        text, size = node.text or "", float(node.get("font-size", 0))
        bold = "b" in (node.get("class") or "").split()
        x, y = float(node.get("x", 0)), float(node.get("y", 0))
        anchor = node.get("text-anchor", "start")
        assert anchor in ("start", "middle", "end")
        found.append((text, text_box(x, y, text, size, anchor, bold=bold)))  # type: ignore[arg-type]
    return found


def read_words(picture: Picture) -> str:
    """All texts of the SVG, those of tooltips too."""
    root = ElementTree.fromstring(picture.svg())
    return "\n".join(
        "".join(node.itertext()) for tag in ("text", "title") for node in root.iter(f"{SVG}{tag}")
    )


def check_picture(picture: Picture) -> None:
    """Well formed in every theme, no text on another or outside the picture, the twin within 80 columns."""
    for theme in ("auto", "light", "dark"):
        root = ElementTree.fromstring(picture.svg(theme))  # type: ignore[arg-type]
        assert not [
            node for node in root.iter() if node.tag in (f"{SVG}script", f"{SVG}foreignObject", f"{SVG}image")
        ]
        assert not [
            key for node in root.iter() for key in node.attrib if key.startswith("on") or key == "style"
        ]
        ids = [node.get("id") for node in root.iter() if node.get("id")]
        assert len(ids) == len(set(ids))
        assert "nan" not in picture.body and "inf" not in picture.body.replace("information", "")
    found = read_texts(picture)
    for text, box in found:
        assert box.x >= 0 and box.right <= 440 and box.y >= 0 and box.bottom <= picture.height, (text, box)
    for (text, box), (other, second) in combinations(found, 2):
        assert not _shrunk(box).meets(_shrunk(second)), (text, other, box, second)
    for line in picture.text.splitlines():
        assert cells(line) <= 80 and "\x1b" not in line, line


def _shrunk(box: Box) -> Box:
    """Without the air above and below small letters, and the rounding of coordinates."""
    return Box(box.x + 0.2, box.y + 0.5, max(0.0, box.width - 0.4), box.height - 1.0)


@pytest.fixture(scope="session")
def check() -> Callable[[Picture], None]:
    return check_picture


@pytest.fixture(scope="session")
def words() -> Callable[[Picture], str]:
    return read_words
