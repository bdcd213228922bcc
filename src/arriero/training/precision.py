"""Precision and threads of a run: chosen once, kept over resumes, said in the facts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from arriero.artifacts.commit import write_json_atomic
from arriero.artifacts.host import usable_cores
from arriero.cost.device import DeviceProfile, load_profile
from arriero.errors import ArrieroError
from arriero.training.settings import TrainSettings

Precision = Literal["fp32", "bf16", "fp8"]
_CHOSEN = "arithmetic.json"


@dataclass(frozen=True)
class Arithmetic:
    """What decides on the last bit of every result, besides the code: precision, number of threads, device."""

    precision: Precision
    threads: int
    device: str = "cpu"

    @property
    def dtype(self) -> str:
        """The name that torch gives to the dtype of the products."""
        return "float32" if self.precision == "fp32" else "bfloat16"


def choose_arithmetic(settings: TrainSettings, profile: DeviceProfile | None) -> Arithmetic:
    """Resolve ``auto``: the device, precision (bf16 on a GPU that has it, on a processor only where its profile
    measured that it pays) and threads.

    Raises:
        ArrieroError: the settings name a GPU, and there is none.
    """
    device, precision = _device(settings), settings.precision
    if precision == "auto":
        pays = _gpu_has_bf16() if device == "cuda" else profile is not None and profile.bf16_pays
        precision = "bf16" if pays else "fp32"
    return Arithmetic(precision, settings.threads or usable_cores(), device)


def _device(settings: TrainSettings) -> str:
    if settings.device == "cpu":
        return "cpu"
    import torch

    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ArrieroError("device cuda: torch sees no NVIDIA GPU here; set device to cpu or auto")
    return "cuda" if there else "cpu"


def _gpu_has_bf16() -> bool:
    import torch

    return torch.cuda.is_bf16_supported()


def kept_arithmetic(settings: TrainSettings, state: Path) -> Arithmetic:
    """The choice of this run's first start, so that a resumed run goes on with the same bits.

    Without it a profile measured anew, or a core more, between the kill and the resume would change the result.
    """
    path = state / _CHOSEN
    if path.exists():
        return Arithmetic(**json.loads(path.read_text(encoding="utf-8")))
    chosen = choose_arithmetic(settings, load_profile())
    write_json_atomic(path, asdict(chosen))
    return chosen


def autocast(precision: Precision, device: str = "cpu") -> AbstractContextManager[object]:
    """Run products and attention in bf16 over fp32 weights (also where the blocks' products are in fp8), or leave
    everything in fp32."""
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=precision != "fp32")


@contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Set torch's threads while the body runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
