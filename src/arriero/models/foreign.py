"""Which of other projects' formats a path is in, if any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arriero.models.weight_source import WeightSource


def open_foreign(path: Path) -> WeightSource | None:
    """Open a GGUF file (or a folder that holds one and no ``config.json``), a folder in Meta's layout (``params.json``)
    or a llama2.c file; None for anything else.

    Raises:
        ArrieroError: it is one of them, and damaged.
    """
    gguf = _gguf_of(path)
    if gguf is not None:
        from arriero.models.gguf import open_gguf

        return open_gguf(gguf)
    if path.is_file() and path.suffix == ".bin":
        from arriero.models.llama2c import open_llama2c

        return open_llama2c(path)
    if (path / "params.json").is_file() and not (path / "config.json").is_file():
        from arriero.models.meta_format import open_meta

        return open_meta(path)
    return None


def _gguf_of(path: Path) -> Path | None:
    """The GGUF file that ``path`` is, or the only one in it."""
    if path.suffix == ".gguf" and path.is_file():
        return path
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    found = sorted(path.glob("*.gguf"))
    return found[0] if len(found) == 1 else None
