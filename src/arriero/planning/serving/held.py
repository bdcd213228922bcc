"""How a model's weights are held where a question does not say."""

from __future__ import annotations

from pathlib import Path

from arriero.cost.device import DeviceProfile
from arriero.errors import ArrieroError, did_you_mean
from arriero.planning.counts.subject import Held

KINDS: tuple[Held, ...] = ("fp32", "bf16", "int8", "int4")
_STORED: dict[str, Held] = {
    "float32": "fp32", "float16": "bf16", "bfloat16": "bf16", "int8": "int8", "int4": "int4",
}  # fmt: skip


def held_of(model: str, weights: str | None, profile: DeviceProfile) -> Held:
    """As asked; else as a model's folder holds them; else in the precision that pays on this machine.

    Raises:
        ArrieroError: no such way to hold weights.
    """
    if weights is not None:
        for kind in KINDS:
            if kind == weights:
                return kind
        raise ArrieroError(
            f"weights are held as {', '.join(KINDS)}; '{weights}' is none{did_you_mean(weights, KINDS)}"
        )
    from arriero.models.checkpoint import read_format

    path = Path(model)
    stored = _STORED.get(read_format(path)) if path.is_dir() or path.suffix == ".gguf" else None
    return stored or ("bf16" if profile.bf16_pays else "fp32")
