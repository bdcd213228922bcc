"""The dated data files behind energy, CO2 and money: power, grid, prices. Read strictly, row by row."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from arriero.cost.quantity import Basis, Quantity


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Row):
    """A published or stated figure with its band, its date and who said so."""

    value: float = Field(gt=0)
    low: float
    high: float
    unit: str
    basis: Basis = "declared"
    as_of: str
    source: str

    @model_validator(mode="before")
    @classmethod
    def _from_spread(cls, row: Any) -> Any:
        """``spread: 0.5`` stands for low = value / 1.5, high = value * 1.5."""
        if isinstance(row, dict) and "spread" in row:
            row = dict(row)
            spread = row.pop("spread")
            row.update(low=row["value"] / (1 + spread), high=row["value"] * (1 + spread))
        return row

    def quantity(self) -> Quantity:
        """The figure as a quantity whose source names its date."""
        return Quantity(
            value=self.value, low=self.low, high=self.high, unit=self.unit, basis=self.basis,
            source=f"{self.source} (as of {self.as_of})",
        )  # fmt: skip


class ProcessorRow(_Row):
    match: str
    tdp_w: float
    threads: int
    as_of: str
    source: str


class PowerTable(_Row):
    idle_share: Figure
    generic_core: Figure
    memory_per_gb: Figure
    pue: Figure
    accelerator_load: Figure
    tdp_spread: float
    processors: list[ProcessorRow]

    def core(self, cpu: str) -> Figure:
        """Watts of one busy hardware thread of that processor; the generic figure when it is not listed."""
        for row in self.processors:
            if row.match in cpu:
                return Figure.model_validate(
                    {
                        "value": row.tdp_w / row.threads, "spread": self.tdp_spread, "unit": "W", "basis": "modelled",
                        "as_of": row.as_of, "source": f"{row.match}: {row.tdp_w:g} W over {row.threads} threads; {row.source}",
                    }
                )  # fmt: skip
        return self.generic_core


class RegionRow(_Row):
    name: str
    g_per_kwh: float
    as_of: str


class GridTable(_Row):
    default: str
    spread: float
    basis: Basis
    source: str
    regions: dict[str, RegionRow]

    def figure(self, region: str) -> Figure:
        row = self.regions[region]
        return Figure.model_validate(
            {
                "value": row.g_per_kwh, "spread": self.spread, "unit": "g/kWh", "basis": self.basis,
                "as_of": row.as_of, "source": f"{row.name}: {self.source}",
            }
        )  # fmt: skip


class PriceBand(_Row):
    value: float
    low: float
    high: float


class AcceleratorRow(_Row):
    name: str
    drivers: list[str]
    tdp_w: float | None = None
    price: PriceBand | None = None
    price_as_of: str = ""
    price_source: str = ""
    spec_source: str


class HourPrice(_Row):
    value: float
    low: float
    high: float
    as_of: str
    source: str


class PriceTable(_Row):
    currency: str
    basis: Basis
    vcpu_hour: HourPrice
    accelerators: list[AcceleratorRow]

    def accelerator(self, driver_name: str) -> AcceleratorRow | None:
        """The row of a device by the exact name its driver gives, or None: never another device's."""
        return next((row for row in self.accelerators if driver_name in (row.name, *row.drivers)), None)


class DevelopmentTable(_Row):
    """What all runs of a project cost, as a multiple of the final one."""

    low: float
    high: float
    basis: Basis
    as_of: str
    source: str


class WaterTable(_Row):
    litres_per_kwh: Figure


def _read(name: str) -> Any:
    return yaml.safe_load(
        files("arriero.cost").joinpath("tables", f"{name}.yaml").read_text(encoding="utf-8")
    )


@lru_cache(maxsize=1)
def power_table() -> PowerTable:
    return PowerTable.model_validate(_read("power"))


@lru_cache(maxsize=1)
def grid_table() -> GridTable:
    return GridTable.model_validate(_read("grid"))


@lru_cache(maxsize=1)
def price_table() -> PriceTable:
    return PriceTable.model_validate(_read("prices"))


@lru_cache(maxsize=1)
def development_table() -> DevelopmentTable:
    return DevelopmentTable.model_validate(_read("development"))


@lru_cache(maxsize=1)
def water_table() -> WaterTable:
    return WaterTable.model_validate(_read("water"))
