"""Which of other projects' formats a path is in, if any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arriero.models.weight_source import WeightSource


def open_foreign(path: Path) -> WeightSource | None:
    """Open a GGUF file, a folder in Meta's layout (``params.json``) or a llama2.c file; None for anything else.

    Raises:
        ArrieroError: it is one of them, and damaged.
    """
    if path.is_file() and path.suffix == ".gguf":
        from arriero.models.gguf import open_gguf

        return open_gguf(path)
    if path.is_file() and path.suffix == ".bin":
        from arriero.models.llama2c import open_llama2c

        return open_llama2c(path)
    if (path / "params.json").is_file() and not (path / "config.json").is_file():
        from arriero.models.meta_format import open_meta

        return open_meta(path)
    return None
