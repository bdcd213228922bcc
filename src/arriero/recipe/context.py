"""The run's side of the stage contract: progress, metrics, stop requests."""

from __future__ import annotations

import errno
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arriero.cost.meter import Meter
from arriero.cost.units import format_money
from arriero.recipe.progress import Display
from arriero.recipe.runfolder import Workplace
from arriero.recipe.stop import StopFlag
from arriero.recipe.tensorboard import EventFile

METRICS = "metrics.jsonl"


class RunContext:
    """What a stage gets while it runs (see :class:`arriero.stage.Context`)."""

    def __init__(
        self,
        place: Workplace,
        seed: int,
        display: Display,
        stop: StopFlag,
        meter: Meter,
        events: EventFile | None = None,
    ) -> None:
        self.folder: Path = place.partial
        self.state: Path = place.state
        self.seed = seed
        self._display = display
        self._stop = stop
        self._meter = meter
        self._events = events
        self._file = place.state / METRICS
        self._metrics = self._file.open("a", encoding="utf-8")
        self._cost, self._cost_at = "", -math.inf
        self._full = False

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        cost = self._cost_so_far()
        self._display.progress(done, total, unit, {**figures, "cost": cost} if cost else dict(figures))

    def _cost_so_far(self) -> str:
        """Money that the stage has cost until now, over all its resumes; worked out at most once a second."""
        now = time.monotonic()
        if now - self._cost_at >= 1:
            money = self._meter.result().estimate.money
            self._cost = format_money(money.value, money.unit) if money.value is not None else ""
            self._cost_at = now
        return self._cost

    def log(self, **figures: Any) -> None:
        with self._going_on_without_space():
            if self._events is not None:
                self._events.add(figures, lambda: read_metrics(self._file))
            self._metrics.write(json.dumps(figures, ensure_ascii=False) + "\n")
            self._metrics.flush()

    @contextmanager
    def _going_on_without_space(self) -> Iterator[None]:
        """A full disk costs figures of the log, not the run."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not self._full:
                self.say("the disk is full: figures of the log are lost until there is space again")
            self._full = True

    def say(self, line: str) -> None:
        self._display.say(line)

    def stop_requested(self) -> bool:
        return bool(self._stop)

    def count_flops(self, flops: float) -> None:
        self._meter.count_flops(flops)

    def close(self) -> None:
        with self._going_on_without_space():
            self._metrics.close()
        if self._events is not None:
            with self._going_on_without_space():
                self._events.close()


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
