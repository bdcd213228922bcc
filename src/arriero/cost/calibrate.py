"""`arriero calibrate`: measure this machine into a device profile. Everything in it comes off a clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from arriero.artifacts.host import cpu_name, memory_bytes, usable_cores, version_facts
from arriero.cost.allocator import keep_freed_memory, return_freed_memory
from arriero.cost.device import (
    SKIPPED,
    AttentionPoint,
    DeviceProfile,
    ElementwisePoint,
    MatmulPoint,
    Rate,
    measured_with,
)
from arriero.cost.microbenchmarks import (
    Case,
    attention_cases,
    elementwise_cases,
    matmul_cases,
    other_cases,
    time_round,
    training_step,
)
from arriero.cost.procfs import resident_bytes, steal_seconds

Probe = Callable[[], dict[str, Rate]]
Say = Callable[[str], None]

_MACHINE_SHARE = 0.6
"""Share of the budget for the machine itself; the stages' probes get the rest."""
_ROUNDS = 3
_SLACK = 1.3
"""Warm-up and whole calls make a round longer than its slices."""
_GRACE_S = 30.0
"""How far over the budget a stage's probe may still begin: a profile without its rates is of little use."""
_STEAL_LIMIT = 0.02
_SPREAD_LIMIT = 0.25


def calibrate(
    *,
    budget_s: float = 45.0,
    probes: Mapping[str, Probe] | None = None,
    progress: Say | None = None,
    short: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> DeviceProfile:
    """Measure the machine, then run the stages' probes.

    Args:
        budget_s: wall seconds to spend. One round of everything is always made, also where that takes longer; only
            probes that would begin half a minute over it are skipped, and named in the profile's notes.
        probes: by name of the stage; each returns the rates it measured.
        progress: is told a line about what is being done.
        short: one round less, for a first run that does not want to wait.
        clock: seconds, monotonic.
    """
    say = progress or (lambda line: None)
    start, load, stolen = clock(), _load(), steal_seconds()
    keep_freed_memory()
    process = _process_bytes()
    cases = _cases()
    say(f"measuring matrix products, attention, element-wise work and the optimizer: {len(cases)} cases")
    slice_s = _MACHINE_SHARE * budget_s / _ROUNDS / (_SLACK * sum(case.weight for case in cases.values()))
    begun = clock()
    time_round(cases.values(), slice_s, clock)
    a_round = clock() - begun
    rates, notes = _run_probes(probes or {}, start + budget_s + _GRACE_S, say, clock)
    for _ in range(1 if short else _ROUNDS - 1):
        if clock() + a_round > start + budget_s:
            break
        say("measuring again, to tell what is the machine from what is a neighbour")
        time_round(cases.values(), slice_s, clock)
    measured = _points(cases)
    cases.clear()
    return_freed_memory()
    notes += _disturbances(load, steal_seconds() - stolen, clock() - start, measured.pop("spread"))
    return DeviceProfile(
        cpu=cpu_name(), cores=usable_cores(), threads=torch.get_num_threads(), memory_bytes=memory_bytes(),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"), versions={**version_facts(), **measured_with()},
        process_bytes=process, rates=rates, notes=notes, **measured,
    )  # fmt: skip


def _cases() -> dict[Hashable, Case]:
    cases: dict[Hashable, Case] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for group in (matmul_cases, elementwise_cases, attention_cases, other_cases):
            cases.update(group())
    return cases


def _process_bytes() -> int:
    """Resident memory once the libraries have loaded what a training step needs, the step's own tensors left out."""
    with torch.random.fork_rng(devices=[]):
        for dtype in ("float32", "bfloat16"):
            training_step(dtype, tokens=8)()
    return_freed_memory()
    return resident_bytes()


def _points(cases: Mapping[Hashable, Case]) -> dict[str, Any]:
    """The profile's fields from the timed cases, by their keys."""
    call = cases["call",].seconds_per_call / cases["call",].work
    matmul, elementwise, attention = [], [], []
    for key, case in cases.items():
        match key:
            case ("matmul", dtype, m, k, n, batch):
                rate = _net_rate(case, call)
                matmul.append(MatmulPoint(dtype=dtype, m=m, k=k, n=n, batch=batch, flops_per_s=rate))
            case ("elementwise", dtype, kind, n_bytes):
                rate = _net_rate(case, call)
                elementwise.append(ElementwisePoint(kind=kind, dtype=dtype, bytes=n_bytes, bytes_per_s=rate))
            case ("attention", dtype, batch, heads, length, features, "forward"):
                backward = cases["attention", dtype, batch, heads, length, features, "backward"]
                attention.append(
                    AttentionPoint(
                        dtype=dtype, batch=batch, n_heads=heads, seq_len=length, head_dim=features,
                        forward_flops_per_s=case.per_s, backward_flops_per_s=backward.per_s,
                    )
                )  # fmt: skip
    operation = cases["operation",]
    spreads = sorted(max(c.seconds) / min(c.seconds) - 1 for c in cases.values())
    return {
        "matmul": matmul, "elementwise": elementwise, "attention": attention,
        "copy_bytes_per_s": cases["copy",].per_s, "op_seconds": operation.seconds_per_call / operation.work,
        "optimizer_params_per_s": cases["optimizer",].per_s,
        "bf16_pays": cases["step", "bfloat16"].seconds_per_call < cases["step", "float32"].seconds_per_call,
        "spread": spreads[len(spreads) // 2],
    }  # fmt: skip


def _net_rate(case: Case, call: float) -> float:
    """Rate without the fixed cost of the call, which the roofline adds for itself."""
    return case.work / max(case.seconds_per_call - call, 0.1 * case.seconds_per_call)


def _run_probes(
    probes: Mapping[str, Probe], deadline: float, say: Say, clock: Callable[[], float]
) -> tuple[dict[str, Rate], list[str]]:
    rates: dict[str, Rate] = {}
    skipped = []
    for name, probe in probes.items():
        if clock() >= deadline:
            skipped.append(name)
            continue
        say(f"measuring the stage '{name}'")
        rates.update(probe())
    notes = [f"{SKIPPED}: {', '.join(skipped)}; calibrate with more seconds"] if skipped else []
    return rates, notes


def _disturbances(load: float, stolen: float, elapsed: float, spread: float) -> list[str]:
    """What may have spoilt the measuring, a line each."""
    notes = []
    if load > 0.5:
        notes.append(f"the machine was busy when the measuring began: 1-minute load {load:.1f}")
    if elapsed > 0 and stolen / elapsed > _STEAL_LIMIT * usable_cores():
        notes.append(f"the hypervisor took {stolen:.1f} CPU seconds away in {elapsed:.0f} s")
    if spread > _SPREAD_LIMIT:
        notes.append(f"rounds differ by {spread:.0%} in the middle case: something else was running")
    return notes


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
