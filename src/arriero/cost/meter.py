"""The meter of a stage: seconds, memory, arithmetic and energy as they are used, safe against kills.

Once a second a sample is appended to a file, so a killed run loses at most that; the meter of the run that
continues adds what earlier runs of the same stage used. No second is counted twice.
"""

from __future__ import annotations

import gc
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from arriero.cost.allocator import return_freed_memory
from arriero.cost.counters import Counters
from arriero.cost.counters_energy import Energy, EnergyCounter
from arriero.cost.interpreter_lock import handed_over_soon
from arriero.cost.meter_clock import Stopwatch
from arriero.cost.meter_file import MeterFile, Segment, read_totals
from arriero.cost.meter_result import Measurement, measurement
from arriero.cost.tariffs import Machine, Tariffs

__all__ = ["HEARTBEAT_S", "SAMPLE_S", "Measurement", "Meter"]

HEARTBEAT_S = 1.0
SAMPLE_S = 0.1
_DEAR_SHARE = 0.003
"""Of the wall time that reading the proportional memory may take."""


class Meter:
    """Context manager around a stage's work.

    Args:
        file: where the samples go; what earlier runs left in it is counted in. None keeps nothing.
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
        self._file = MeterFile(file) if file is not None else None
        self._tariffs = tariffs
        self._counters = counters or Counters.system()
        self._machine = machine
        self._background = background
        self._notes: list[str] = []
        self._earlier: list[Segment] = []
        self._flops = 0.0
        self._peak = self._proportional = 0
        self._next_dear = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._soon = handed_over_soon()
        self._final: Segment | None = None

    def __enter__(self) -> Meter:
        self._earlier = self._load()
        gc.collect()
        return_freed_memory()
        read = self._counters
        self._exact_peak = read.reset_peak()
        self._peak = read.resident()
        self._watch = Stopwatch(read.wall, read.boot)
        self._watch.start()
        self._begun = (read.cpu(), read.steal(), read.cpu_pressure(), read.memory_pressure())
        self._energy_begun = tuple(self._energy(counter) for counter in (read.package, read.accelerator))
        self._begin_file()
        self.beat()  # so that a run that is killed at once is counted too
        if self._background:
            self._soon.__enter__()  # before the thread: its first wait for the interpreter's lock must be short, too
            self._thread = threading.Thread(target=self._go_on, name="arriero-meter", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._soon.__exit__(None, None, None)
        self._final = self._segment(ended=True)
        self._save(self._final)
        if self._file is not None:
            self._file.close()

    def count_flops(self, flops: float) -> None:
        """Add arithmetic that was really done. May be called from any thread."""
        with self._lock:
            self._flops += flops

    def beat(self) -> None:
        """Read every counter and append a sample."""
        self._save(self._segment(ended=False))

    def result(self) -> Measurement:
        """What was used, by this process and by the earlier ones of the same stage."""
        segments = [*self._earlier, self._final or self._segment(ended=False)]
        machine = self._machine or _machine_here()
        notes = [*self._notes, *self._remarks(segments)]
        return measurement(segments, machine, self._tariffs, missing=self._counters.missing, notes=notes)

    # ------------------------------------------------------------ reading

    def _go_on(self) -> None:
        """Sample the memory often when the system keeps no peak for us, and append a sample once a second."""
        every = HEARTBEAT_S if self._exact_peak else SAMPLE_S
        waited = 0.0
        while not self._stop.wait(every):
            waited += every
            if waited >= HEARTBEAT_S:
                waited = 0.0
                self.beat()
            else:
                self._see_memory()

    def _see_memory(self) -> None:
        """The peak of the tree: of this process alone, or of it and its children at one moment."""
        read = self._counters
        now = read.resident()
        seen = max(read.peak() if self._exact_peak else 0, now + read.children())
        with self._lock:
            self._peak = max(self._peak, seen)

    def _see_proportional(self) -> None:
        """Walks the page tables, so the larger the process, the more seldom it is done."""
        read = self._counters
        begun = read.wall()
        if begun < self._next_dear:
            return
        self._proportional = max(self._proportional, read.proportional())
        ended = read.wall()
        self._next_dear = ended + (ended - begun) / _DEAR_SHARE

    def _segment(self, *, ended: bool) -> Segment:
        self._see_memory()
        self._see_proportional()
        read = self._counters
        with self._lock:  # a stage asks for its cost so far while the background thread takes a sample
            seconds = self._watch.look()
            cpu, steal, cpu_pressure, memory_pressure = (
                max(0.0, now - begun)
                for now, begun in zip(
                    (read.cpu(), read.steal(), read.cpu_pressure(), read.memory_pressure()), self._begun, strict=True
                )
            )  # fmt: skip
            package, accelerator = (
                _since(self._energy(counter), begun)
                for counter, begun in zip((read.package, read.accelerator), self._energy_begun, strict=True)
            )
            return Segment(
                wall_seconds=seconds, cpu_seconds=cpu, steal_seconds=steal, peak_bytes=self._peak, flops=self._flops,
                cpu_pressure_seconds=cpu_pressure, memory_pressure_seconds=memory_pressure,
                asleep_seconds=self._watch.asleep, jumped_seconds=self._watch.jumped, gap_seconds=self._watch.gaps,
                proportional_bytes=self._proportional,
                package_joules=package.counted if package else None,
                package_filled_joules=package.filled if package else 0.0,
                accelerator_joules=accelerator.counted if accelerator else None,
                accelerator_filled_joules=accelerator.filled if accelerator else 0.0,
                accelerator_polled=read.accelerator is not None and read.accelerator.basis != "measured",
                ended=ended,
            )  # fmt: skip

    def _energy(self, counter: EnergyCounter | None) -> Energy | None:
        return counter.observe(self._counters.wall()) if counter is not None else None

    # ------------------------------------------------------------ the file

    def _load(self) -> list[Segment]:
        if self._file is None or not self._file.path.exists():
            return []
        path = self._file.path
        try:
            return read_totals(path)
        except (ValueError, OSError):
            self._notes.append("what earlier runs of this stage used could not be read and is missing here")
            path.replace(path.with_name(f"{path.name}.damaged"))  # or the next run could not read ours
            return []

    def _begin_file(self) -> None:
        if self._file is not None:
            try:
                self._file.begin(datetime.now(UTC).isoformat(timespec="seconds"))
            except OSError as error:
                self._unwritten(error)

    def _save(self, sample: Segment) -> None:
        if self._file is not None:
            try:
                self._file.add(sample)
            except OSError as error:  # the stage's own work is worth more than its meter
                self._unwritten(error)

    def _unwritten(self, error: OSError) -> None:
        note = "the meter could not be written, a kill would lose its seconds"
        if not any(known.startswith(note) for known in self._notes):
            self._notes.append(f"{note}: {error.strerror or error}")

    # ------------------------------------------------------------ remarks

    def _remarks(self, segments: list[Segment]) -> list[str]:
        notes = []
        killed = sum(not segment.ended for segment in segments[:-1])
        if killed:
            notes.append(
                f"{killed} earlier run(s) were killed; up to {HEARTBEAT_S:g} s of each is not counted"
            )
        if not self._exact_peak:
            notes.append(f"peak memory was sampled every {SAMPLE_S:g} s; shorter peaks may be missing")
        for counter in (self._counters.package, self._counters.accelerator):
            notes += counter.faults() if counter is not None else []
        return notes


def _since(now: Energy | None, begun: Energy | None) -> Energy | None:
    if now is None or begun is None:
        return now
    return Energy(now.counted - begun.counted, now.filled - begun.filled)


def _machine_here() -> Machine:
    """This machine; with torch's accelerators when the process has opened one."""
    torch = sys.modules.get("torch")
    here = Machine.here()
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        name, count = torch.cuda.get_device_name(0), torch.cuda.device_count()
        return Machine(here.cpu, here.cores, here.threads, "cuda", name, count)
    return here
