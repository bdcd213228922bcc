"""The table of devices: dense peaks, memory, links, and what was measured of them; an unknown figure stays unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from arriero.cost.device import profile_path
from arriero.cost.quantity import Quantity
from arriero.errors import ArrieroError, did_you_mean

Kind = Literal["gpu", "tpu", "npu", "cpu"]

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")

_UNITS: dict[str, tuple[str, float]] = {
    "memory_gib": ("B", 2.0**30), "usable_gib": ("B", 2.0**30), "bandwidth_gb_s": ("B/s", 1e9),
    "fp32_tflops": ("FLOP/s", 1e12), "tf32_tflops": ("FLOP/s", 1e12), "fp16_tflops": ("FLOP/s", 1e12),
    "bf16_tflops": ("FLOP/s", 1e12), "fp8_tflops": ("FLOP/s", 1e12), "int8_tops": ("OP/s", 1e12),
    "fp4_tflops": ("FLOP/s", 1e12), "tdp_w": ("W", 1.0), "intra_gb_s": ("B/s", 1e9), "inter_gb_s": ("B/s", 1e9),
    "gemm_tflops": ("FLOP/s", 1e12), "gemm_efficiency": ("1", 1.0), "bandwidth_efficiency": ("1", 1.0),
    "op_overhead_us": ("s", 1e-6),
    **{
        f"{collective}_{figure}": unit
        for collective in COLLECTIVES
        for figure, unit in (
            ("bus_gb_s", ("B/s", 1e9)), ("latency_us", ("s", 1e-6)), ("doubling_us", ("s", 1e-6)), ("growth", ("1", 1.0)),
        )
    },
}  # fmt: skip
"""Figures that the table may hold: their SI unit, and what one of the table's units is in it."""

_FITTED = ("gemm_tflops", "gemm_efficiency", "bandwidth_efficiency", "op_overhead_us", "usable_gib")
_MAKERS = re.compile(r"nvidia|geforce|tesla|amd|instinct|intel|google|huawei")


@dataclass(frozen=True)
class Provenance:
    """Where a figure is from."""

    source: str
    as_of: str
    confidence: Literal["high", "medium", "low"]


@dataclass(frozen=True)
class Hardware:
    """One kind of device. Figures are read by the table's names in SI units; what nobody knows is None.

    Attributes:
        name: as listed. aliases, drivers: other names, and the names that drivers report.
        figures: table name (``bf16_tflops``) -> value in SI units (FLOP/s). provenance: the same keys.
    """

    name: str
    vendor: str = ""
    year: int | None = None
    kind: Kind = "gpu"
    aliases: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    notes: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Provenance] = field(default_factory=dict)

    def get(self, figure: str) -> float | None:
        """A figure in SI units, or None when it is unknown.

        Raises:
            ArrieroError: there is no figure of this name.
        """
        if figure not in _UNITS:
            raise ArrieroError(f"devices have no figure '{figure}'{did_you_mean(figure, _UNITS)}")
        return self.figures.get(figure)

    def quantity(self, figure: str) -> Quantity:
        """A figure with its source and basis, or unknown and why."""
        value, unit = self.get(figure), _UNITS[figure][0]
        if value is None:
            return Quantity.unknown(unit, f"nobody has told {figure} of {self.name}")
        found = self.provenance[figure]
        fitted = figure in _FITTED or figure.startswith(COLLECTIVES)
        basis: Literal["measured", "declared"] = "measured" if fitted else "declared"
        return Quantity.exact(value, unit, basis, f"{found.source} ({found.as_of}, {found.confidence})")

    def peak(self, dtype: str) -> float | None:
        """Dense peak of matrix products, FLOP/s (int8: operations), or None: a missing type is never another's."""
        name = f"{dtype}_tops" if dtype == "int8" else f"{dtype}_tflops"
        return self.figures.get(name)

    @property
    def memory_bytes(self) -> float | None:
        """Bytes that programs can have: what the driver gives where known, otherwise the nominal size."""
        return self.figures.get("usable_gib", self.figures.get("memory_gib"))

    @property
    def bandwidth(self) -> float | None:
        """Peak of the memory, bytes/s."""
        return self.figures.get("bandwidth_gb_s")

    @property
    def tdp_w(self) -> float | None:
        """Rated power of the device alone, W."""
        return self.figures.get("tdp_w")

    @property
    def intra_bandwidth(self) -> float | None:
        """One direction of the link inside a node, bytes/s."""
        return self.figures.get("intra_gb_s")

    @property
    def inter_bandwidth(self) -> float | None:
        """A device's share of the network between nodes, bytes/s and direction."""
        return self.figures.get("inter_gb_s")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Source(_Part):
    source: str
    as_of: str
    confidence: Literal["high", "medium", "low"]


class _Figure(_Part):
    value: float = Field(gt=0)
    source_name: str = Field(alias="from")


class _Device(_Part):
    name: str
    aliases: list[str] = []
    drivers: list[str] = []
    vendor: str = ""
    year: int | None = None
    kind: Kind = "gpu"
    notes: str = ""
    figures: dict[str, _Figure]


class _Table(_Part):
    sources: dict[str, _Source]
    devices: list[_Device]

    @model_validator(mode="after")
    def _every_figure_is_known(self) -> _Table:
        for device in self.devices:
            for name, figure in device.figures.items():
                if name not in _UNITS:
                    raise ValueError(f"{device.name}: no figure '{name}'{did_you_mean(name, _UNITS)}")
                if figure.source_name not in self.sources:
                    raise ValueError(f"{device.name}.{name}: no source '{figure.source_name}' is listed")
        return self


def known() -> tuple[Hardware, ...]:
    """The devices that come with Arriero, after the user's own of other names."""
    own = own_devices()
    taken = {device.name for device in own}
    return (*own, *(device for device in _shipped() if device.name not in taken))


def own_path() -> Path:
    """Where a user's own devices are looked for: ``hardware.yaml`` beside the device profile."""
    return profile_path().parent / "hardware.yaml"


def own_devices() -> tuple[Hardware, ...]:
    """The devices of :func:`own_path`; none where there is no such file.

    Raises:
        ArrieroError: the file is no table of devices.
    """
    path = own_path()
    return load(path) if path.is_file() else ()


def load(path: Path) -> tuple[Hardware, ...]:
    """Devices of a user's own file, in the form of ``tables/hardware.yaml``.

    Raises:
        ArrieroError: the file cannot be read or is no table of devices.
    """
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArrieroError(f"{path}: the table of devices could not be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArrieroError(
            f"{path}: no table of devices: {where or 'file'}: {first['msg']}; "
            "the form is that of cost/tables/hardware.yaml"
        ) from None
    except yaml.YAMLError as error:
        raise ArrieroError(f"{path}: no YAML: {' '.join(str(error).split())}") from None


def find(name: str, own: Sequence[Hardware] | None = None) -> Hardware:
    """The device of this name, alias or driver's name; capitals, blanks, dashes and the maker's name do not matter.

    Args:
        own: the user's devices, which go before the shipped ones; by default those of :func:`own_path`.

    Raises:
        ArrieroError: no device of that name is known, or several are meant.
    """
    wanted = _plain(name)
    own = own_devices() if own is None else own
    for table in (own, _shipped()):
        for device in table:
            if wanted and wanted in _names(device):
                return device
    everything = [device.name for device in (*own, *_shipped())]
    family = [device for device in (*own, *_shipped()) if wanted and _plain(device.name).startswith(wanted)]
    if len(family) > 1:
        listed = ", ".join(device.name for device in family)
        raise ArrieroError(f"'{name}' may be any of {listed}, which differ: say which")
    raise ArrieroError(
        f"no device '{name}' is known{_suggestion(name, everything)}; "
        f"add it in {own_path()} (in the form of cost/tables/hardware.yaml), or calibrate on it"
    )


def _suggestion(name: str, everything: Iterable[str]) -> str:
    by_plain = {_plain(one): one for one in everything}
    shipped = {alias: device.name for device in _shipped() for alias in _names(device)}
    near = did_you_mean(_plain(name), {**by_plain, **shipped})
    found = re.search(r"did you mean '(.*)'", near)
    if found:
        return f"; did you mean '{({**by_plain, **shipped})[found[1]]}'?"
    return f"; known: {', '.join(by_plain.values())}"


def _names(device: Hardware) -> set[str]:
    return {_plain(one) for one in (device.name, *device.aliases, *device.drivers)}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", _MAKERS.sub("", name.lower().replace("(r)", "")))


@lru_cache(maxsize=1)
def _shipped() -> tuple[Hardware, ...]:
    return _parse(files("arriero.cost").joinpath("tables", "hardware.yaml").read_text(encoding="utf-8"))


def _parse(text: str) -> tuple[Hardware, ...]:
    table = _Table.model_validate(yaml.safe_load(text))
    return tuple(_hardware(device, table.sources) for device in table.devices)


def _hardware(device: _Device, sources: dict[str, _Source]) -> Hardware:
    return Hardware(
        name=device.name, vendor=device.vendor, year=device.year, kind=device.kind,
        aliases=tuple(device.aliases), drivers=tuple(device.drivers), notes=device.notes,
        figures={name: figure.value * _UNITS[name][1] for name, figure in device.figures.items()},
        provenance={
            name: Provenance(**sources[figure.source_name].model_dump())
            for name, figure in device.figures.items()
        },
    )  # fmt: skip
