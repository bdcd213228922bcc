"""What one sees while a recipe runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from arriero.cost.units import format_bytes, format_seconds

Figure = float | int | str


def format_figure(name: str, value: Figure) -> str:
    """``loss=2.3145`` -> "loss 2.314"; ``tokens_per_s=9876.5`` -> "9,876 tokens/s"; ``mfu=0.63`` -> "MFU 63 %"."""
    if isinstance(value, str):
        return f"{name.replace('_', ' ')} {value}"
    if name == "mfu":
        return f"MFU {value:.0%}"
    if name == "lr":
        return f"lr {value:.2g}"
    if name.endswith("_bytes"):
        return f"{name.removesuffix('_bytes').replace('_', ' ')} {format_bytes(value)}"
    if name.endswith("_per_s"):
        return f"{value:,.0f} {name.removesuffix('_per_s').replace('_', ' ')}/s"
    shown = (
        f"{value:,}" if isinstance(value, int) else f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    )
    return f"{name.replace('_', ' ')} {shown}"


def format_done(done: float, total: float | None, unit: str) -> str:
    """ "120/300 steps"; without a total "120 steps"."""
    return f"{done:,.0f}/{total:,.0f} {unit}" if total else f"{done:,.0f} {unit}"


class Clock:
    """Time left, from the pace since this stage's first report (a resumed stage does not start at zero)."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def left(self, done: float, total: float | None) -> float | None:
        """Seconds left, or None while the pace is not known."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        start, done_at_start = self._first
        if not total or done <= done_at_start or now - start < 1:
            return None
        return max(0.0, (total - done) * (now - start) / (done - done_at_start))


class Display(Protocol):
    """Where a run reports to."""

    def start(self, name: str, kind: str, number: int, of: int) -> None: ...
    def progress(self, done: float, total: float | None, unit: str, figures: dict[str, Figure]) -> None: ...
    def say(self, line: str) -> None: ...
    def finish(self, line: str) -> None: ...
    def close(self) -> None: ...


class PlainDisplay:
    """A line when a stage starts and ends, and one every few seconds between."""

    def __init__(self, stream: TextIO | None = None, every: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._every = every
        self._name = ""
        self._next = 0.0
        self._clock = Clock()

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def start(self, name: str, kind: str, number: int, of: int) -> None:
        self._name, self._clock = name, Clock()
        self._next = time.monotonic() + self._every
        self._line(f"[{number}/{of}] {name} ({kind})" if name != kind else f"[{number}/{of}] {name}")

    def progress(self, done: float, total: float | None, unit: str, figures: dict[str, Figure]) -> None:
        left = self._clock.left(done, total)
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        parts = [f"{done / total:.0%}" if total else "", format_done(done, total, unit)]
        parts += [format_figure(name, value) for name, value in figures.items()]
        parts += [f"{format_seconds(left)} left"] if left is not None else []
        self._line(f"  {self._name}: " + " · ".join(part for part in parts if part))

    def say(self, line: str) -> None:
        self._line(f"  {line}")

    def finish(self, line: str) -> None:
        self._line(f"  {line}")

    def close(self) -> None:
        self._stream.flush()


class BarDisplay:
    """One live bar for the stage at work; finished stages stay above it as lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(), TextColumn("[bold]{task.description}"), BarColumn(bar_width=28),
            TextColumn("{task.fields[done]}"), TextColumn("[cyan]{task.fields[figures]}"),
            TimeElapsedColumn(), TextColumn("[dim]{task.fields[left]}"),
            console=console, transient=True, refresh_per_second=5,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._clock = Clock()
        self._progress.start()

    def start(self, name: str, kind: str, number: int, of: int) -> None:
        self._clock = Clock()
        title = escape(f"{number}/{of} {name}" + (f" ({kind})" if name != kind else ""))
        self._task = self._progress.add_task(title, total=None, done="", figures="", left="")

    def progress(self, done: float, total: float | None, unit: str, figures: dict[str, Figure]) -> None:
        if self._task is None:
            return
        left = self._clock.left(done, total)
        shown = " · ".join(format_figure(name, value) for name, value in figures.items())
        self._progress.update(
            self._task, completed=done, total=total, done=format_done(done, total, unit), figures=escape(shown),
            left=f"{format_seconds(left)} left" if left is not None else "",
        )  # fmt: skip

    def say(self, line: str) -> None:
        self._progress.console.print(f"  {escape(line)}", highlight=False)

    def finish(self, line: str) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._progress.console.print(f"[green]✓[/] {escape(line)}", highlight=False)

    def close(self) -> None:
        self._progress.stop()


def make_display() -> Display:
    """Bars on a terminal, lines elsewhere (and in CI logs)."""
    console = Console(stderr=True)
    return BarDisplay(console) if console.is_terminal else PlainDisplay()
