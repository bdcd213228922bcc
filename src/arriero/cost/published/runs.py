"""The table of published runs."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field


class PublishedRun(BaseModel):
    """A pre-training run as its paper or card tells it; only what is needed to predict its hours is required."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    year: int | None = None
    params: float = Field(gt=0)
    tokens: float = Field(gt=0)
    context: int = Field(default=2048, gt=0)
    hardware: str
    devices: int | None = Field(default=None, gt=0)
    hours: float | None = Field(default=None, gt=0, description="device-hours")
    recompute: Literal["none", "full"] = "none"
    watts: float | None = None
    energy_mwh: float | None = None
    co2_t: float | None = None
    source: str = ""


@lru_cache(maxsize=1)
def known_runs() -> tuple[PublishedRun, ...]:
    """The runs that come with Arriero."""
    text = files("arriero.cost").joinpath("tables", "published_runs.yaml").read_text(encoding="utf-8")
    return tuple(PublishedRun.model_validate(row) for row in yaml.safe_load(text)["runs"])
