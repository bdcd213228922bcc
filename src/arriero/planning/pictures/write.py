"""Pictures as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from arriero.artifacts.commit import write_bytes_atomic
from arriero.errors import ArrieroError
from arriero.planning.pictures.picture import Picture
from arriero.planning.pictures.png import png, png_available


def write_pictures(folder: Path, pictures: Iterable[Picture], *, with_png: bool | None = None) -> list[Path]:
    """Write NAME.svg, NAME.txt and, where the extra ``[png]`` is installed, NAME.png and NAME-dark.png.

    Args:
        with_png: None writes PNG where that can be done; True asks for it; False leaves it out.

    Returns:
        the files, in the order of writing.

    Raises:
        ArrieroError: two pictures have one name, the folder cannot be written, or PNG was asked for and cannot be made.
    """
    pictures = list(pictures)
    names = [picture.name for picture in pictures]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ArrieroError(f"two pictures have the name '{double}'")
    if with_png is None:
        with_png = png_available()
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            files = {
                f"{picture.name}.svg": picture.svg().encode(),
                f"{picture.name}.txt": f"{picture.text}\n".encode(),
            }
            if with_png:
                files |= {
                    f"{picture.name}.png": png(picture),
                    f"{picture.name}-dark.png": png(picture, "dark"),
                }
            for name, content in files.items():
                write_bytes_atomic(folder / name, content)
                written.append(folder / name)
    except OSError as error:
        raise ArrieroError(f"{folder}: the pictures could not be written: {error.strerror}") from None
    return written


def written_words(folder: Path, written: list[Path]) -> str:
    """What was written, for the user: how many files, where, and how to have PNG too."""
    more = "" if png_available() else '; PNG files too with `pip install "arriero[png]"`'
    return f"{len(written)} files of pictures in {folder}{more}"
