"""The meter of a stage: seconds, memory, arithmetic and energy as they are used, safe against kills.

Totals so far are written to a file once a second, so a killed run loses at most that; the meter of the run
that continues adds what earlier runs of the same stage used. No second is counted twice.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from arriero.artifacts.commit import write_json_atomic
from arriero.cost.allocator import return_freed_memory
from arriero.cost.counters import Counters
from arriero.cost.estimate import Estimate
from arriero.cost.quantity import Quantity, total
from arriero.cost.tariffs import Machine, Tariffs

HEARTBEAT_S = 1.0
SAMPLE_S = 0.1
_STEAL_SHARE = 0.02


class Segment(BaseModel):
    """What one process used between two moments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wall_seconds: float
    cpu_seconds: float
    steal_seconds: float
    peak_bytes: int
    flops: float
    package_joules: float | None = None
    accelerator_joules: float | None = None
    ended: bool = False
    """False in the file of a run that was killed: what came after its last heartbeat is not in it."""


class Measurement(BaseModel):
    """What a stage took. Energy is modelled from CPU seconds where no counter could be read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimate: Estimate
    cpu_seconds: float
    steal_seconds: float
    segments: int
    """Processes that worked on the stage: 1 plus the number of kills and interruptions it survived."""
    notes: list[str] = []


class Meter:
    """Context manager around a stage's work.

    Args:
        file: where the totals so far are kept; segments that an earlier run left in it are counted in.
            None keeps nothing.
        tariffs: for the energy model, CO2 and money; None leaves energy to the counters, and the rest unknown.
        counters: what to read, by default this machine's.
        background: False leaves out the sampling thread; then call :meth:`beat` yourself.
    """

    def __init__(
        self,
        file: Path | None = None,
        tariffs: Tariffs | None = None,
        *,
        counters: Counters | None = None,
        machine: Machine | None = None,
        background: bool = True,
    ) -> None:
        self._file = file
        self._tariffs = tariffs
        self._counters = counters or Counters.system()
        self._machine = machine
        self._background = background
        self._notes: list[str] = []
        self._earlier: list[Segment] = []
        self._flops = 0.0
        self._peak = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._final: Segment | None = None

    def __enter__(self) -> Meter:
        self._earlier = self._load()
        gc.collect()
        return_freed_memory()
        read = self._counters
        self._exact_peak = read.reset_peak()
        self._peak = read.resident()
        self._start = (
            read.wall(),
            read.cpu(),
            read.steal(),
            _joules(read.package),
            _joules(read.accelerator),
        )
        self.beat()  # so that a run that is killed at once is counted too
        if self._background:
            self._thread = threading.Thread(target=self._watch, name="arriero-meter", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._final = self._segment(ended=True)
        self._save(self._final)

    def count_flops(self, flops: float) -> None:
        """Add arithmetic that was really done. May be called from any thread."""
        with self._lock:
            self._flops += flops

    def beat(self) -> None:
        """Read every counter and write the totals so far."""
        self._save(self._segment(ended=False))

    def result(self) -> Measurement:
        """What was used, by this process and by the earlier ones of the same stage."""
        segments = [*self._earlier, self._final or self._segment(ended=False)]
        machine = self._machine or _machine_here()
        seconds = _measured(sum(s.wall_seconds for s in segments), "s", "monotonic clock")
        flops = sum(s.flops for s in segments)
        sheet = Estimate(
            seconds=seconds,
            peak_memory=_measured(max(s.peak_bytes for s in segments), "B", "resident memory"),
            flops=_measured(flops, "FLOP", "counted from the operations' shapes")
            if flops
            else Quantity.unknown("FLOP", "the stage counts none"),
        )
        energy = self._energy(segments, sheet, machine)
        if self._tariffs is not None:
            sheet = self._tariffs.priced(sheet, machine, energy)
        else:
            sheet = sheet.model_copy(update={"energy": energy})
        steal = sum(s.steal_seconds for s in segments)
        return Measurement(
            estimate=sheet, cpu_seconds=sum(s.cpu_seconds for s in segments), steal_seconds=steal,
            segments=len(segments), notes=[*self._notes, *self._remarks(segments, steal, machine)],
        )  # fmt: skip

    # ------------------------------------------------------------ reading

    def _watch(self) -> None:
        """Sample the memory often when the system keeps no peak for us, and write the totals once a second."""
        every = HEARTBEAT_S if self._exact_peak else SAMPLE_S
        waited = 0.0
        while not self._stop.wait(every):
            self._see_memory()
            waited += every
            if waited >= HEARTBEAT_S:
                waited = 0.0
                self.beat()

    def _see_memory(self) -> None:
        read = self._counters
        seen = max(read.peak() if self._exact_peak else 0, read.resident())
        with self._lock:
            self._peak = max(self._peak, seen)

    def _segment(self, *, ended: bool) -> Segment:
        self._see_memory()
        read = self._counters
        wall, cpu, steal, package, accelerator = self._start
        package_now, accelerator_now = _joules(read.package), _joules(read.accelerator)
        with self._lock:
            return Segment(
                wall_seconds=read.wall() - wall, cpu_seconds=read.cpu() - cpu,
                steal_seconds=max(0.0, read.steal() - steal), peak_bytes=self._peak, flops=self._flops,
                package_joules=None if package_now is None else package_now - (package or 0.0),
                accelerator_joules=None if accelerator_now is None else accelerator_now - (accelerator or 0.0),
                ended=ended,
            )  # fmt: skip

    # ------------------------------------------------------------ the file

    def _load(self) -> list[Segment]:
        if self._file is None or not self._file.exists():
            return []
        try:
            return [Segment.model_validate(item) for item in json.loads(self._file.read_bytes())["segments"]]
        except (ValueError, KeyError, TypeError, ValidationError):
            self._notes.append("what earlier runs of this stage used could not be read and is missing here")
            return []

    def _save(self, current: Segment) -> None:
        if self._file is None:
            return
        segments = [segment.model_dump() for segment in (*self._earlier, current)]
        try:
            write_json_atomic(self._file, {"format": "arriero.meter/1", "segments": segments})
        except OSError as error:  # the stage's own work is worth more than its meter
            note = f"the meter could not be written, a kill would lose its seconds: {error.strerror}"
            if note not in self._notes:
                self._notes.append(note)

    # ------------------------------------------------------------ energy and remarks

    def _energy(self, segments: list[Segment], sheet: Estimate, machine: Machine) -> Quantity:
        parts = []
        if all(s.package_joules is not None for s in segments):
            joules = sum(s.package_joules or 0.0 for s in segments)
            parts.append(_measured(joules, "J", "RAPL counters of the whole package"))
        elif self._tariffs is not None:
            cpu, wall = sum(s.cpu_seconds for s in segments), sum(s.wall_seconds for s in segments)
            cores = self._tariffs.core_energy(machine, cpu, wall)
            memory = self._tariffs.memory_energy(sheet.peak_memory, sheet.seconds)
            parts += [cores] if self._tariffs.watts is not None else [cores, memory]
        else:
            parts.append(Quantity.unknown("J", "no energy counter can be read"))
        if machine.device != "cpu" or any(s.accelerator_joules is not None for s in segments):
            if all(s.accelerator_joules is not None for s in segments):
                joules = sum(s.accelerator_joules or 0.0 for s in segments)
                parts.append(_measured(joules, "J", "NVML counters"))
            else:
                parts.append(Quantity.unknown("J", "the accelerator's energy was not read all the time"))
        sources = "; ".join(dict.fromkeys(part.source for part in parts if part.source))
        return total(parts, "J").model_copy(update={"source": sources})

    def _remarks(self, segments: list[Segment], steal: float, machine: Machine) -> list[str]:
        notes = []
        killed = sum(not segment.ended for segment in segments[:-1])
        if killed:
            notes.append(
                f"{killed} earlier run(s) were killed; up to {HEARTBEAT_S:g} s of each is not counted"
            )
        wall = sum(segment.wall_seconds for segment in segments)
        if wall > 0 and steal / (wall * machine.cores) > _STEAL_SHARE:
            notes.append(
                f"the hypervisor took {steal:.1f} CPU seconds away: the wall time is too long by about that"
            )
        if not self._exact_peak:
            notes.append(f"peak memory was sampled every {SAMPLE_S:g} s; shorter peaks may be missing")
        return notes


def _joules(counter: Any) -> float | None:
    return counter.joules() if counter is not None else None


def _measured(value: float, unit: str, source: str) -> Quantity:
    return Quantity.exact(float(value), unit, "measured", source)


def _machine_here() -> Machine:
    """This machine; with torch's first accelerator when the process has opened one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        here = Machine.here()
        return Machine(here.cpu, here.cores, here.threads, "cuda", torch.cuda.get_device_name(0))
    return Machine.here()
