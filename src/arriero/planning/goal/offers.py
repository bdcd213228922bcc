"""The devices that a search may choose from, with what is known of their speed, power, price and failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from arriero.cost.cluster import Cluster
from arriero.cost.cluster_formula import best_interval, effective_share
from arriero.cost.device import DeviceProfile, load_profile
from arriero.cost.hardware.table import Hardware, find, known
from arriero.cost.quantity import Quantity
from arriero.cost.search.evaluate import Offer
from arriero.cost.tariffs import Tariffs
from arriero.cost.time import TIERS, Coefficients
from arriero.cost.workload import Dtype, Workload
from arriero.errors import ArrieroError
from arriero.planning.estimate.coefficients import coefficients_of, measured_coefficients
from arriero.planning.estimate.device_source import Device, find_device
from arriero.planning.estimate.fit import runtime_bytes

DTYPES: tuple[Dtype, ...] = ("bf16", "fp32")
"""Precisions that Arriero trains every model in, the usual one first."""
_TYPICAL_RUN_DAYS = 30.0


def choose_devices(names: Sequence[str]) -> list[Hardware]:
    """The devices of these names, each once; every GPU of the table where none is named.

    Raises:
        ArrieroError: an unknown device.
    """
    devices = [find(name) for name in names] or [device for device in known() if device.kind == "gpu"]
    return list({device.name: device for device in devices}.values())


def precisions(devices: Sequence[Hardware], asked: Sequence[Dtype]) -> list[Dtype]:
    """Those of ``asked`` of which some device has a peak; where none was asked for, the first of :data:`DTYPES`, and the
    next ones as long as a device has none so far.

    Raises:
        ArrieroError: no device has any.
    """
    wanted = tuple(asked) or DTYPES
    found = [dtype for dtype in wanted if any(device.peak(dtype) is not None for device in devices)]
    if not found:
        names = ", ".join(device.name for device in devices)
        raise ArrieroError(
            f"the table has no peak in {' or '.join(wanted)} for {names}: nothing can be timed"
        )
    if asked:
        return found
    enough = next(
        (
            n
            for n in range(1, len(found))
            if all(any(device.peak(d) for d in found[:n]) for device in devices)
        ),
        len(found),
    )
    return found[:enough]


def make_offers(
    devices: Sequence[Hardware], workloads: Mapping[Dtype, Workload], tariffs: Tariffs, prices: Mapping[str, float],
    node: int,
) -> list[Offer]:  # fmt: skip
    """One offer for each device, in their order.

    Args:
        workloads: the model in each precision that is looked at; a device without a peak in one is not offered in it.
        prices: money of an hour by any name of a device; the name "" means the only device there is.

    Raises:
        ArrieroError: a price for a device that is not among them.
    """
    own = _own_prices(prices, devices)
    profile = load_profile()
    return [_offer(device, workloads, tariffs, own.get(device.name), node, profile) for device in devices]


def _own_prices(prices: Mapping[str, float], devices: Sequence[Hardware]) -> dict[str, float]:
    names = [device.name for device in devices]
    found = {}
    for name, price in prices.items():
        if not name and len(devices) > 1:
            raise ArrieroError(f"--price {price:g}: of which device? write it as h100-sxm={price:g}")
        meant = find(name).name if name else names[0]
        if meant not in names:
            raise ArrieroError(f"--price {name}={price:g}: {meant} is not among the devices of --hardware")
        found[meant] = price
    return found


def _offer(
    hardware: Hardware, workloads: Mapping[Dtype, Workload], tariffs: Tariffs, price: float | None, node: int,
    profile: DeviceProfile | None,
) -> Offer:  # fmt: skip
    device = find_device(hardware.name, tariffs)
    coefficients = {
        dtype: _coefficients(device, hardware, dtype, workload, profile)
        for dtype, workload in workloads.items()
        if hardware.peak(dtype) is not None
    }
    return Offer(
        hardware=hardware, node=node, price=_price(device, tariffs, price), watts=tariffs.full_power(device.machine),
        coefficients={str(dtype): one for dtype, one in coefficients.items()}, band={dtype: band_of(one) for dtype, one in coefficients.items()},
        runtime=lambda count: runtime_bytes(device, count), effective=_effective(device.failures),
    )  # fmt: skip


def _coefficients(
    device: Device, hardware: Hardware, dtype: Dtype, workload: Workload, profile: DeviceProfile | None
) -> Coefficients:
    """What was measured, where the machine at hand has such a device and was calibrated; links are the table's."""
    listed = coefficients_of(device, dtype, workload)
    if profile is None or profile.accelerator not in (hardware.name, *hardware.drivers) or profile.stale():
        return listed
    named = {"fp32": "float32", "bf16": "bfloat16"}.get(dtype)
    if named not in {point.dtype for point in profile.matmul} or named not in {
        p.dtype for p in profile.attention
    }:
        return listed
    measured = measured_coefficients(profile, dtype, workload)
    return replace(measured, values=np.where(np.isnan(measured.values), listed.values, measured.values))


def _price(device: Device, tariffs: Tariffs, own: float | None) -> Quantity:
    if own is None:
        return tariffs.hour_price(device.machine)
    return Quantity.exact(own, f"{tariffs.currency}/h", "declared", "given with --price")


def band_of(coefficients: Coefficients) -> tuple[float, float]:
    """Factors of the lower and the upper end of an 80 % band of seconds (1.28 standard deviations)."""
    spread = max(TIERS[coefficients.tier].spread, 1.28 * (coefficients.spread or 0.0))
    return 1 / (1 + spread), 1 + spread


def _effective(fleet: str | None) -> Callable[[int], float]:
    """Share of the wall clock that trains, by device count, at the published failure rate; 1 where none is known."""
    if fleet is None:
        return lambda devices: 1.0

    def share(devices: int) -> float:
        cluster = Cluster(devices=devices, days=_TYPICAL_RUN_DAYS, gpu=fleet, planned_per_day=0)
        return effective_share(cluster, best_interval(cluster))

    return share


def loss_to_failures(offer: Offer, devices: int) -> float | None:
    """Share of the time that failures are expected to take; None where no rate is known for the device."""
    lost = 1.0 - offer.effective(devices)
    return lost if lost > 0 else None
