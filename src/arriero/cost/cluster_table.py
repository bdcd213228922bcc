"""The dated data file behind the cluster simulator: failure rates of real fleets and what restarts cost."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict, Field

from arriero.cost.quantity import Basis
from arriero.errors import ArrieroError, did_you_mean

_HOURS_PER_DAY = 24.0


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    basis: Basis
    as_of: str
    source: str

    @property
    def told(self) -> str:
        """Who said so, and when."""
        return f"{self.source} (as of {self.as_of})"


class Fleet(_Row):
    """Interruptions by kind that were counted on ``devices`` devices in ``days`` days."""

    drivers: list[str]
    devices: int = Field(gt=0)
    days: float = Field(gt=0)
    kinds: dict[str, float]

    @property
    def failures_per_device_hour(self) -> float:
        return sum(self.kinds.values()) / (self.devices * self.days * _HOURS_PER_DAY)

    @property
    def shares(self) -> dict[str, float]:
        """The part of all interruptions that each kind has."""
        every = sum(self.kinds.values())
        return {kind: count / every for kind, count in self.kinds.items()}


class Default(_Row):
    value: float = Field(ge=0)


class ReliabilityTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    fleets: Mapping[str, Fleet]
    defaults: Mapping[str, Default]

    def name(self, gpu: str) -> str | None:
        """The row that ``gpu`` means, by its name in the table or the exact name a driver gives; None: not listed."""
        if gpu.lower() in self.fleets:
            return gpu.lower()
        return next((name for name, row in self.fleets.items() if gpu in row.drivers), None)

    def fleet(self, gpu: str) -> Fleet:
        """The row of a device.

        Raises:
            ArrieroError: no rate is known for it.
        """
        name = self.name(gpu)
        if name is None:
            raise ArrieroError(
                f"no failure rate is known for gpu '{gpu}'{did_you_mean(gpu, self.fleets)}; "
                "or give failures_per_device_hour"
            )
        return self.fleets[name]


@lru_cache(maxsize=1)
def reliability_table() -> ReliabilityTable:
    path = files("arriero.cost").joinpath("tables", "reliability.yaml")
    return ReliabilityTable.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
