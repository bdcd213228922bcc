"""The run's side of the stage contract: progress, metrics, stop requests."""

from __future__ import annotations

import json
import signal
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arriero.cost.meter import Meter
from arriero.recipe.progress import Display
from arriero.recipe.runfolder import Workplace

METRICS = "metrics.jsonl"


class StopFlag:
    """Set by the first Ctrl-C or SIGTERM; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    @contextmanager
    def on_signals(self, display: Display) -> Iterator[None]:
        """Listen while the body runs (in the main thread; elsewhere the caller has its own signals)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: types.FrameType | None) -> None:
            if self and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.set()
            display.say(
                "stopping at the next safe point … (Ctrl-C again stops at once; nothing finished is lost)"
            )

        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class RunContext:
    """What a stage gets while it runs (see :class:`arriero.stage.Context`)."""

    def __init__(self, place: Workplace, seed: int, display: Display, stop: StopFlag, meter: Meter) -> None:
        self.folder: Path = place.partial
        self.state: Path = place.state
        self.seed = seed
        self._display = display
        self._stop = stop
        self._meter = meter
        self._metrics = (place.state / METRICS).open("a", encoding="utf-8")

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        self._display.progress(done, total, unit, dict(figures))

    def log(self, **figures: Any) -> None:
        self._metrics.write(json.dumps(figures, ensure_ascii=False) + "\n")
        self._metrics.flush()

    def say(self, line: str) -> None:
        self._display.say(line)

    def stop_requested(self) -> bool:
        return bool(self._stop)

    def count_flops(self, flops: float) -> None:
        self._meter.count_flops(flops)

    def close(self) -> None:
        self._metrics.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics file in order, each step once.

    A resumed stage repeats the steps after its last checkpoint: where the step number goes back, the lines
    that it repeats are left out in favour of the later ones. A line cut short by a kill is left out too.
    """
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        step = line.get("step")
        if step is not None:
            while lines and lines[-1].get("step") is not None and _repeats(lines[-1], line):
                lines.pop()
        lines.append(line)
    return lines


def _repeats(earlier: dict[str, Any], later: dict[str, Any]) -> bool:
    """True when ``earlier`` lies at or after the step that ``later`` redoes."""
    same_kind = earlier.keys() == later.keys()
    return earlier["step"] > later["step"] or (earlier["step"] == later["step"] and same_kind)
