"""The device profile: what `arriero calibrate` measured of this machine, and what a plan rests on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arriero.artifacts.commit import write_bytes_atomic
from arriero.artifacts.host import cpu_name, usable_cores, version_facts
from arriero.errors import ArrieroError
from arriero.native.library import build_id
from arriero.products import float32_library

PRODUCTS, KERNELS = "float32 products", "native kernels"
"""Keys of the profile's versions: which library did the products, and which build of the native one was there."""


SKIPPED = "no time was left for the probes of"
"""How the note begins that names stages without rates."""


def measured_with() -> dict[str, str]:
    """What the present process would be measured with, beside the versions of packages."""
    return {PRODUCTS: float32_library(), KERNELS: build_id()}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MatmulPoint(_Part):
    """Sustained rate of ``batch`` products ``(m, k) @ (k, n)`` in one call, on random normal data."""

    dtype: Literal["float32", "bfloat16"]
    m: int
    k: int
    n: int
    batch: int = 1
    flops_per_s: float


class AttentionPoint(_Part):
    """Sustained rate of causal scaled-dot-product attention, forward and backward, causal FLOPs counted."""

    dtype: Literal["float32", "bfloat16"]
    batch: int
    n_heads: int
    seq_len: int
    head_dim: int
    forward_flops_per_s: float
    backward_flops_per_s: float


ElementwiseKind = Literal["in_place", "stream", "transcendental", "softmax", "reduction"]
"""Classes of operations whose time is bytes over a rate: overwriting an operand, plain arithmetic into a new
tensor, with an exponential in it, row-wise softmax, sums along rows."""


class ElementwisePoint(_Part):
    """Sustained rate of one class of element-wise operation. Allocating the result is part of it: a fresh block
    is mapped page by page, which can take longer than the arithmetic."""

    kind: ElementwiseKind
    dtype: Literal["float32", "bfloat16"]
    bytes: int = Field(description="read plus written by one call")
    bytes_per_s: float


class Rate(_Part):
    """Units a stage's own code gets through in a second, measured by the stage's probe."""

    per_s: float
    spread: float = Field(description="relative half-width of the band, e.g. 0.2 for ±20 %")
    unit: str


class DeviceProfile(_Part):
    """What a plan needs to know of the machine. Every figure in it was measured on it."""

    format: Literal["arriero.device/1"] = "arriero.device/1"
    cpu: str
    device: str = Field(default="cpu", description="torch device type the rates were measured on")
    accelerator: str | None = Field(default=None, description="the accelerator's name as its driver gives it")
    cores: int
    threads: int = Field(description="torch threads in use")
    memory_bytes: int
    measured_at: str
    versions: dict[str, str]
    matmul: list[MatmulPoint]
    attention: list[AttentionPoint]
    elementwise: list[ElementwisePoint]
    copy_bytes_per_s: float = Field(description="read plus write of a block far larger than the caches")
    op_seconds: float = Field(description="cost of one small eager operation")
    optimizer_params_per_s: float = Field(description="fused AdamW, fp32 states")
    bf16_pays: bool = Field(description="bf16 autocast beats fp32 on a small model's training step here")
    process_bytes: int = Field(description="resident memory of a process that has loaded torch and Arriero")
    rates: dict[str, Rate] = Field(default={}, description="what the stages' probes measured, by rate name")
    notes: list[str] = Field(default=[], description="what disturbed the measuring, a line each")

    def rate(self, name: str) -> Rate | None:
        """A stage's measured rate, or None when it has not been measured on this machine."""
        return self.rates.get(name)

    def stale(self) -> str | None:
        """Why this profile does not describe the present process, or None when it does."""
        if self.cpu != cpu_name() or self.cores != usable_cores():
            return f"was measured on {self.cpu} with {self.cores} cores"
        if self.versions.get("torch") != version_facts().get("torch"):
            return f"was measured with torch {self.versions.get('torch')}"
        if self.versions.get(PRODUCTS) != float32_library():
            return f"was measured with float32 products by {self.versions.get(PRODUCTS, 'another library')}"
        if self.versions.get(KERNELS) != build_id():
            return f"was measured with {_kernels(self.versions.get(KERNELS, ''))}"
        return None


def _kernels(build: str) -> str:
    return "no native kernels" if build == "none" else f"other native kernels (build {build or 'unknown'})"


def profile_path() -> Path:
    """Where this machine's profile lies: $ARRIERO_HOME/device.json, by default in ~/.cache/arriero."""
    home = os.environ.get("ARRIERO_HOME")
    folder = (
        Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "arriero"
    )
    return folder / "device.json"


def load_profile(path: Path | None = None) -> DeviceProfile | None:
    """This machine's profile, or None when it was never calibrated.

    Raises:
        ArrieroError: the file is there but is no device profile.
    """
    path = path or profile_path()
    try:
        return DeviceProfile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError):
        raise ArrieroError(f"{path} is no device profile; remove it and run `arriero calibrate`") from None


def save_profile(profile: DeviceProfile, path: Path | None = None) -> Path:
    """Write the profile and return where it went."""
    path = path or profile_path()
    write_bytes_atomic(path, (profile.model_dump_json(indent=2) + "\n").encode())
    return path
