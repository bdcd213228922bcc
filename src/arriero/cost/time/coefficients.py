"""Seconds a unit of each kind of work takes: first from the table of devices, then from measured runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from arriero.cost.hardware.table import Hardware

NAMES = (
    "products", "attention", "elementwise", "head", "optimizer", "all_reduce", "gather", "network", "hop", "launch", "step",
)  # fmt: skip
"""Units: FLOP · FLOP · byte · FLOP · byte · bus byte · bus byte · network byte · message · block passed · step."""

EXPOSED = 0.3
"""Share of the traffic of sharded states that compute does not hide even where it would be long enough."""

_TYPICAL_EFFICIENCY = 0.65
"""Of the dense peak, where nobody has measured products: between 0.51 (MI300X) and 0.80 (H100)."""
_TYPICAL_BANDWIDTH = 0.7
_TYPICAL_OVERHEAD = 4e-6

_POWER, _ATTENTION, _EAGER = 1.15, 3.3, 0.75
_HOP, _LAUNCHES, _STEP = 2e-5, 120, 5e-3
"""A message's latency by doubling of the group; launches of a pass through a block, at a product's overhead each; seconds
of a step whatever its size. These six lie between what runs on A100 and on H100 ask for (tables/time_classes.yaml)."""


@dataclass(frozen=True)
class Coefficients:
    """Seconds per unit, by :data:`NAMES`; NaN where the device's figure is unknown.

    Attributes:
        device: what they are of. dtype: of the products. tier: a key of :data:`arriero.cost.time.TIERS`.
        spread: standard deviation of log(measured / predicted) of the rows they were fitted on, left out one by one;
            None before any fit. rows: how many. missing: what is unknown, and so makes time unknown.
    """

    device: str
    dtype: str
    values: np.ndarray
    tier: str = "datasheet"
    spread: float | None = None
    rows: int = 0
    missing: tuple[str, ...] = ()
    sources: tuple[str, ...] = field(default=())

    def of(self, name: str) -> float:
        """Seconds per unit of one kind of work."""
        return float(self.values[NAMES.index(name)])

    @property
    def stream(self) -> float:
        """Seconds a byte of large blocks that are read through once: as the optimizer does, otherwise as the rest."""
        return self.of("elementwise") if np.isnan(self.of("optimizer")) else self.of("optimizer")

    def scaled(self, factors: np.ndarray, **changes: object) -> Coefficients:
        """These times one factor for each of :data:`NAMES`: how a fit on one device serves its class."""
        return replace(self, values=self.values * factors, **changes)  # type: ignore[arg-type]


def prior(hardware: Hardware, dtype: str = "bf16") -> Coefficients:
    """The best that is known of a device before anything was measured on it: what runs on its class of devices took
    (:mod:`arriero.cost.time.classes`), otherwise its data sheet."""
    from arriero.cost.time.classes import class_of

    sheet, found = datasheet(hardware, dtype), class_of(hardware, dtype)
    return sheet if found is None else found.applied(sheet)


def datasheet(hardware: Hardware, dtype: str = "bf16") -> Coefficients:
    """Coefficients from the table of devices alone.

    Matrix products run at e x the dense peak of ``dtype`` (e fitted on measured products, otherwise 0.65 assumed), less
    an eighth, for a device that trains all day is held back by its power; causal attention at about a third of that (its
    backward pass re-reads, and tiles on the diagonal are half empty); messages at the measured bus, otherwise at 0.7 of
    the link. Element-wise bytes are those of eager code, operation by operation; caches and fused kernels spare part.
    """
    peak, bandwidth = hardware.peak(dtype), hardware.bandwidth
    efficiency = hardware.get("gemm_efficiency") or _TYPICAL_EFFICIENCY
    streaming = hardware.get("bandwidth_efficiency") or _TYPICAL_BANDWIDTH
    overhead = hardware.get("op_overhead_us") or _TYPICAL_OVERHEAD
    product = _per(peak, efficiency / _POWER)
    stream = _per(bandwidth, streaming)
    link = hardware.intra_bandwidth
    seconds = {
        "products": product, "attention": _ATTENTION * product, "elementwise": _EAGER * stream, "head": product,
        "optimizer": stream, "all_reduce": _per(hardware.get("all_reduce_bus_gb_s"), 1.0, otherwise=_per(link, 0.7)),
        "gather": _per(hardware.get("all_gather_bus_gb_s"), 1.0, otherwise=_per(link, 0.7)),
        "network": _per(hardware.inter_bandwidth, 0.8), "hop": _HOP, "launch": _LAUNCHES * overhead, "step": _STEP,
    }  # fmt: skip
    return Coefficients(
        hardware.name, dtype, np.array([seconds[name] for name in NAMES]), missing=_missing(hardware, dtype, seconds)
    )  # fmt: skip


def _per(rate: float | None, efficiency: float, otherwise: float = float("nan")) -> float:
    return otherwise if rate is None else 1.0 / (rate * efficiency)


def _missing(hardware: Hardware, dtype: str, seconds: dict[str, float]) -> tuple[str, ...]:
    said = {
        "products": f"the dense {dtype} peak of {hardware.name}", "elementwise": f"the memory bandwidth of {hardware.name}",
        "gather": f"the link between {hardware.name} devices", "network": f"the network of {hardware.name} nodes",
    }  # fmt: skip
    return tuple(text for name, text in said.items() if np.isnan(seconds[name]))
