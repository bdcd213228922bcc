"""What a training run tells of itself: speed, utilisation with its formula, memory by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from arriero.cost.device import DeviceProfile
from arriero.cost.procfs import resident_bytes
from arriero.training.metrics import Window
from arriero.training.precision import Arithmetic


def peak_flops_per_s(profile: DeviceProfile | None, dtype: str) -> float | None:
    """The fastest matrix product that was measured on this machine in ``dtype``; None when none was."""
    rates = [point.flops_per_s for point in profile.matmul if point.dtype == dtype] if profile else []
    return max(rates, default=None)


class Telemetry:
    """Figures of the stretch since the last line of the log.

    Args:
        trained: parameters by name.
        devices: that the processes have; those on a processor share it.
        profile: gives the peak that the utilisation is a share of; without one it is left out.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        trained: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        arithmetic: Arithmetic,
        profile: DeviceProfile | None,
        *,
        devices: int = 1,
    ) -> None:
        peak = peak_flops_per_s(profile, arithmetic.dtype)
        self._peak = peak * devices if peak else None
        self._dtype = arithmetic.dtype
        parameters = list(trained.values())
        self._device = next(model.parameters()).device
        self._by_kind = {
            "weights_bytes": sum(_bytes(p) for p in model.parameters()),
            "gradients_bytes": sum(_bytes(p) for p in parameters),
            "optimizer_bytes": sum(
                _bytes(value) for p in parameters for value in optimizer.state[p].values()
            ),
        }

    @property
    def formula(self) -> str | None:
        """What the utilisation is; None where it is not known."""
        if self._peak is None:
            return None
        return (
            f"MFU: FLOPs of the training steps a second, over {self._peak / 1e9:,.0f} GFLOP/s, the fastest "
            f"{self._dtype} matrix product in the device profile"
        )

    def speed(self, window: Window) -> dict[str, float]:
        """Tokens a second, and MFU where peak and FLOPs are known."""
        seconds = max(1e-9, window.seconds)
        figures = {"tokens_per_s": window.tokens / seconds}
        if self._peak and window.flops:
            figures["mfu"] = window.flops / seconds / self._peak
        return figures

    def waited(self, window: Window) -> dict[str, float]:
        """Share of the steps' seconds in which they waited for their samples."""
        return {"data_wait_share": window.waited / max(1e-9, window.seconds)}

    def memory(self) -> dict[str, int]:
        """Bytes now: weights, gradients and optimizer state by their tensors; and what the process holds in all.

        What is left of ``memory_bytes`` are activations, data, code, and blocks that the allocator keeps.
        """
        if self._device.type == "cuda":
            return {"memory_bytes": torch.cuda.max_memory_allocated(self._device), **self._by_kind}
        return {"memory_bytes": resident_bytes(), **self._by_kind}


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0
