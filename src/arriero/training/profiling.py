"""Where the time of a training step goes: a torch profiler trace of a few steps, and a summary of one screen."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

FIRST_STEP, STEPS = 4, 3
"""Steps before the profiler starts (kernels are made, memory is touched), and steps that it records."""
TRACE, SUMMARY = "trace.json", "summary.txt"
CLASSES = {
    "matrix products": ("linear_pointwise", "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "gemm"),
    "attention": ("scaled_dot_product", "flash_attention", "_efficient_attention"),
    "optimizer": ("fused_adam", "_foreach", "linalg_vector_norm", "aten::_fused"),
    "softmax and loss": ("softmax", "nll_loss", "cross_entropy", "logsumexp"),
    "embedding": ("embedding", "index_select", "index_add"),
    "copies and casts": (
        "aten::copy_",
        "aten::_to_copy",
        "aten::cat",
        "aten::clone",
        "aten::fill_",
        "aten::zero_",
    ),
}
"""Name of a class of operations, and what the names of its operations contain; all others are element-wise work."""
OTHER, PYTHON = "element-wise and other", "between operations (Python, data, waiting)"
_TOP = 12


@dataclass(frozen=True)
class Spent:
    """Seconds of the recorded steps that one operation took by itself, without what it calls."""

    name: str
    seconds: float
    calls: int


class StepProfiler:
    """Records steps FIRST_STEP to FIRST_STEP + STEPS - 1 of a process; :meth:`step` after each step.

    Args:
        folder: gets ``trace.json`` (chrome://tracing, Perfetto) and ``summary.txt``; None records nothing.
        say: shown the summary, line by line.
    """

    def __init__(self, folder: Path | None, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._count = 0
        self._profiler: Any = None

    def step(self) -> None:
        """A step has ended."""
        if self._folder is None:
            return
        self._count += 1
        if self._count == FIRST_STEP - 1:
            os.environ.setdefault(
                "KINETO_LOG_LEVEL", "9"
            )  # its library writes lines of its own to the terminal
            self._profiler = torch.profiler.profile(record_shapes=False)
            self._profiler.start()
        elif self._count == FIRST_STEP + STEPS - 1:
            self._finish(self._folder)

    def close(self) -> None:
        """End a recording that the run was too short for."""
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None
        if self._folder is not None and self._count < FIRST_STEP + STEPS - 1:
            self._say(
                f"no profile: the run had {self._count} of the {FIRST_STEP + STEPS - 1} steps that it takes"
            )

    def _finish(self, folder: Path) -> None:
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(folder / TRACE))
        lines = summary(spent(profiler.key_averages()), _wall(profiler), STEPS)
        (folder / SUMMARY).write_text("\n".join(lines) + "\n", encoding="utf-8")
        for line in lines:
            self._say(line)
        self._say(
            f"the whole trace: {TRACE} in logs/{folder.name} (open it with Perfetto or chrome://tracing)"
        )


def spent(averages: Iterable[Any]) -> list[Spent]:
    """Own seconds of every operation, on the accelerator where there is one, the longest first."""
    rows = [
        Spent(row.key, (row.self_device_time_total or row.self_cpu_time_total) / 1e6, row.count)
        for row in averages
        if not row.key.startswith("ProfilerStep")
    ]
    return sorted(rows, key=lambda row: -row.seconds)


def class_of(name: str) -> str:
    """The class of operations that one belongs to."""
    return next((kind for kind, parts in CLASSES.items() if any(part in name for part in parts)), OTHER)


def summary(rows: list[Spent], wall: float, steps: int) -> list[str]:
    """One screen: shares by class, and the operations that took longest."""
    total: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        total[class_of(row.name)] += row.seconds
    inside = sum(total.values())
    if wall > inside:
        total[PYTHON] = wall - inside
    whole = max(wall, inside)
    lines = [f"{steps} steps in {wall:.3f} s, {wall / steps * 1e3:.1f} ms each"]
    for kind, seconds in sorted(total.items(), key=lambda item: -item[1]):
        share = seconds / whole
        lines.append(f"  {kind:<44}{share:>7.1%}  {'█' * round(30 * share)}")
    lines.append(f"  {'the longest operations':<44}{'share':>7}{'ms a step':>12}{'calls a step':>14}")
    for row in rows[:_TOP]:
        lines.append(
            f"  {row.name[:43]:<44}{row.seconds / whole:>7.1%}{row.seconds / steps * 1e3:>12.2f}"
            f"{row.calls / steps:>14.1f}"
        )
    return lines


def _wall(profiler: Any) -> float:
    """Seconds from the first recorded event to the end of the last."""
    events = profiler.events()
    return (max(e.time_range.end for e in events) - min(e.time_range.start for e in events)) / 1e6
