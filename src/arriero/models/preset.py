"""Published shapes by name: what `arriero models list` shows and what `preset:` takes in a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from arriero.errors import ArrieroError, did_you_mean
from arriero.models.config import ModelConfig
from arriero.models.families import get_family


@dataclass(frozen=True)
class Preset:
    """A published shape.

    Attributes:
        year: of publication.
        source: paper or model card that gives the shape.
        parameters: published or derived count, to the digit.
        without: parts that this count leaves out, as its source did; "bias": all biases but those of norms.
        shape: fields of the configuration.
    """

    name: str
    family: str
    year: int
    source: str
    parameters: int
    without: tuple[str, ...]
    shape: dict[str, Any]

    @property
    def config(self) -> ModelConfig:
        """The configuration: the shape over what the family has always, or when nothing is said."""
        family = get_family(self.family)
        fields = {**family.defaults, **family.fixed, **self.shape, "family": self.family}
        return family.config.parse(fields, f"preset {self.name}")


@cache
def presets() -> dict[str, Preset]:
    """All presets by name, in the order in which the files have them."""
    found: dict[str, Preset] = {}
    folder = resources.files("arriero.models") / "presets"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            for name, values in yaml.safe_load(file.read_text("utf-8")).items():
                found[name] = _preset(name, dict(values))
    return found


def _preset(name: str, values: dict[str, Any]) -> Preset:
    said = {key: values.pop(key) for key in ("family", "year", "source", "parameters")}
    return Preset(name, without=tuple(values.pop("without", ())), shape=values, **said)


def get_preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        ArrieroError: there is none of that name.
    """
    if name not in presets():
        raise ArrieroError(
            f"no preset (see `arriero models list`), file or folder is called '{name}'{did_you_mean(name, presets())}"
        )
    return presets()[name]


def preset_config(name: str) -> ModelConfig:
    """Configuration of a preset; see :func:`get_preset`."""
    return get_preset(name).config
