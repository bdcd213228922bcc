"""Which model a question is about: a preset's name, a model folder or file, or a bare ``config.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arriero.errors import ArrieroError, did_you_mean
from arriero.models.config import ModelConfig
from arriero.models.hf_config import config_from_hf
from arriero.models.preset import get_preset, presets


@dataclass(frozen=True)
class ModelSource:
    """A model of which only the shape is known.

    Attributes:
        name: what the user called it.
        origin: who gave the shape: a paper, or the file that was read.
    """

    name: str
    config: ModelConfig
    origin: str

    @property
    def longest(self) -> int | None:
        """Tokens of the model's own context, where it has one."""
        found = getattr(self.config, "longest", None) or getattr(self.config, "context_length", None)
        return None if found is None else int(found)


def find_model(name: str) -> ModelSource:
    """The model that ``name`` means: a preset first, then a file or folder of that name.

    Folders may be of Hugging Face's layout or of any other that Arriero loads; of a Hugging Face model the
    ``config.json`` alone is enough, as file or folder. No weights are read.

    Raises:
        ArrieroError: nothing of that name, or an architecture that Arriero does not have.
    """
    if name in presets():
        return ModelSource(name, get_preset(name).config, get_preset(name).source)
    path = Path(name)
    if path.is_file() and path.suffix == ".json":
        return ModelSource(name, config_from_hf(_read(path), str(path)), str(path))
    if path.exists():
        from arriero.models.checkpoint import CONFIG, read_config

        config = read_config(path)
        return ModelSource(name, config, str(path / CONFIG if (path / CONFIG).is_file() else path))
    raise ArrieroError(_not_found(name))


def _not_found(name: str) -> str:
    """Why a name means no model, and what would: for `owner/model`, the file to fetch and the nearest preset."""
    last = name.rstrip("/").split("/")[-1].lower()
    near = did_you_mean(last, presets())
    if name.count("/") == 1 and not name.endswith(".json"):
        return f"'{name}' is no folder here; nothing is downloaded: save that model's config.json and give its path{near}"
    return f"no preset (see `arriero models list`), file or folder is called '{name}'{near}"


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArrieroError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise ArrieroError(f"{path} should hold a JSON object")
    return values
