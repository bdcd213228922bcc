"""A model's operations on a device's roofline: products by their shapes, attention, and writing answers."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost.device import DeviceProfile
from arriero.cost.hardware.table import Hardware
from arriero.cost.workload import Workload
from arriero.planning.pictures.roofline import Operation, Roof

DECODED = (1, 8, 64)
"""Answers written at a time, of the points that show decoding."""
_BYTES = {"fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "float32": 4.0, "bfloat16": 2.0}


@dataclass(frozen=True)
class Reached:
    """FLOP/s of one device that the time model expects of products and of attention; None: as the roof allows."""

    products: float | None = None
    attention: float | None = None


def hardware_roof(hardware: Hardware, precision: str) -> Roof | None:
    """Of the data sheet, None where it does not say."""
    peak, bandwidth = hardware.peak(precision), hardware.get("bandwidth_gb_s")
    if peak is None or bandwidth is None:
        return None
    return Roof(f"{hardware.name}, {precision}", peak, bandwidth)


def profile_roof(profile: DeviceProfile, precision: str) -> Roof | None:
    """What was measured of this machine: the best rate of products, and of copying what no cache holds."""
    dtype = {"fp32": "float32", "bf16": "bfloat16"}.get(precision)
    products = [point.flops_per_s for point in profile.matmul if point.dtype == dtype]
    return Roof(f"{profile.cpu}, {precision}", max(products), profile.copy_bytes_per_s) if products else None


def operations_of(
    workload: Workload, roof: Roof, precision: str, *, micro_batch: int, tensor: int = 1, reached: Reached | None = None
) -> list[Operation]:  # fmt: skip
    """The forward products of one micro-batch on one device, its attention, and decoding at a few batch sizes.

    Every operand is read and every result written once; attention is one kernel that keeps the scores to itself.

    Args:
        tensor: devices that each block's matrices are cut over.
    """
    reached, size = reached or Reached(), _BYTES[precision]
    shape, tokens = workload.dimensions, micro_batch * workload.context
    heads = (shape.n_heads + 2 * shape.n_kv_heads) * shape.head_dim / tensor
    products = {
        "query, key, value": (shape.d_model, heads, "products"),
        "attention output": (shape.n_heads * shape.head_dim / tensor, shape.d_model, "products"),
        "feed-forward up": (shape.d_model, shape.d_ff / tensor, "products"),
        "feed-forward down": (shape.d_ff / tensor, shape.d_model, "products"),
        "vocabulary": (shape.d_model, shape.vocab_size / tensor, "head"),
    }
    found = []
    for name, (inner, outer, kind) in products.items():
        if inner and outer:
            traffic = size * (tokens * inner + inner * outer + tokens * outer)
            found.append(_operation(name, 2 * tokens * inner * outer / traffic, reached.products, kind, roof))
    moved = size * tokens * 2 * (shape.n_heads + shape.n_kv_heads) * shape.head_dim / tensor
    flops = workload.forward_block.attention * micro_batch / tensor
    if moved and flops:
        found.append(_operation("attention", flops / moved, reached.attention, "attention", roof))
    return [*found, *(_decoding(workload, batch, size) for batch in DECODED)] if workload.kv_token else found


def _operation(name: str, intensity: float, rate: float | None, kind: str, roof: Roof) -> Operation:
    return Operation(name, intensity, min(rate, roof.at(intensity)) if rate else None, kind)


def _decoding(workload: Workload, batch: int, size: float) -> Operation:
    """One token for each of ``batch`` answers of full context: all weights and all kept keys and values are read."""
    weights = workload.parameters.total - workload.parameters.looked_up
    flops = 2.0 * weights * batch
    moved = size * weights + batch * workload.kv_token * workload.context
    return Operation(f"decoding, batch {batch}", flops / moved, None, "decode")
