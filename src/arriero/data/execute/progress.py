"""How far a run over many tasks is: rate, share dropped, time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A snapshot. Tasks that were done before count as done, but not towards the rate."""

    tasks: int
    of_tasks: int
    bytes: int
    of_bytes: int
    documents: int
    kept: int
    seconds: float
    """Since the run began."""
    earlier_tasks: int = 0
    earlier_bytes: int = 0
    task: str = ""
    """The task that was finished last."""

    @property
    def bytes_per_s(self) -> float:
        """Input bytes per second of this run; 0 before the first task is done."""
        return (self.bytes - self.earlier_bytes) / self.seconds if self.seconds > 0 else 0.0

    @property
    def drop_rate(self) -> float | None:
        """Share of the documents of this run that were not kept; None before the first document."""
        return 1 - self.kept / self.documents if self.documents else None

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far, by bytes where tasks have a size, else by tasks; None before the first is done."""
        now, left = self.bytes - self.earlier_bytes, self.of_bytes - self.bytes
        if not self.of_bytes:
            now, left = self.tasks - self.earlier_tasks, self.of_tasks - self.tasks
        return self.seconds * left / now if now > 0 else None

    def line(self) -> str:
        """E.g. ``12/40 tasks, 1.2 of 4.0 GB, 18.3 MB/s, 31.0 % dropped, 2:31 left``."""
        parts = [f"{self.tasks:,}/{self.of_tasks:,} tasks"]
        if self.of_bytes:
            parts += [
                f"{self.bytes / 1e9:.2f} of {self.of_bytes / 1e9:.2f} GB",
                f"{self.bytes_per_s / 1e6:.1f} MB/s",
            ]
        if self.drop_rate is not None:
            parts.append(f"{100 * self.drop_rate:.1f} % dropped")
        if self.seconds_left is not None:
            minutes, seconds = divmod(round(self.seconds_left), 60)
            hours, minutes = divmod(minutes, 60)
            parts.append(
                f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"
            )
        return ", ".join(parts)


class Meter:
    """Counts finished tasks and tells of them."""

    def __init__(
        self,
        tick: Callable[[Progress], None],
        sizes: list[int],
        earlier: list[int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``sizes``: bytes of all tasks; ``earlier``: of those that were done before."""
        self._tick, self._clock = tick, clock
        self._started = clock()
        self._of = len(sizes), sum(sizes)
        self._earlier = len(earlier), sum(earlier)
        self._tasks, self._bytes = self._earlier
        self._documents = self._kept = 0
        self._last = ""

    def finished(self, name: str, size: int, documents: int, kept: int) -> None:
        """One task more."""
        self._tasks += 1
        self._bytes += size
        self._documents += documents
        self._kept += kept
        self._last = name
        self.tell()

    def tell(self) -> None:
        """Call ``tick`` with how far the run is now."""
        self._tick(
            Progress(
                tasks=self._tasks, of_tasks=self._of[0], bytes=self._bytes, of_bytes=self._of[1],
                documents=self._documents, kept=self._kept, seconds=self._clock() - self._started,
                earlier_tasks=self._earlier[0], earlier_bytes=self._earlier[1], task=self._last,
            )
        )  # fmt: skip
