"""The files that go with a model's weights wherever they go: tokenizer and generation settings."""

from __future__ import annotations

import shutil
from pathlib import Path

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
)
COMPANIONS = (*TOKENIZER_FILES, "generation_config.json")

FOLDER_SECONDS = 0.08
"""Opening a model folder and writing another, whatever the model's size; by the ledgers of
`make demo` on two cores 0.06 to 0.2."""


def copy_companions(source: Path, target: Path) -> list[str]:
    """Copy those of :data:`COMPANIONS` that ``source`` has, byte for byte; returns their names."""
    found = [name for name in COMPANIONS if (source / name).is_file()]
    for name in found:
        shutil.copyfile(source / name, target / name)
    return found
