"""What `arriero plan --goal` is asked, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from arriero.cost.search.choose import Objective
from arriero.cost.search.columns import End
from arriero.cost.workload import Dtype
from arriero.errors import ArrieroError, did_you_mean
from arriero.models.config import ModelConfig

Goal = Literal["cheapest", "fastest", "greenest", "fits", "best-model"]
GOALS: tuple[str, ...] = get_args(Goal)
METHODS = ("full", "lora", "qlora")
_UNITS = {"min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*(min|h|d|w)")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")


@dataclass(frozen=True)
class GoalQuestion:
    """One question about plans.

    Attributes:
        goal: one of :data:`GOALS`. name, config: the model (none for best-model, whose candidates ``models`` names).
        tokens: to train on; None where the goal decides. deadline: seconds from now. deadline_text: as it was said.
        budget: money in the tariffs' currency. hardware: names; empty: every GPU in the table.
        counts: device counts; empty: powers of two up to ``max_devices``.
        context: tokens of a sequence. batch_tokens: tokens of a step; None: usual for the model's size.
        methods, dtypes: to choose from; dtypes empty: bf16, and fp32 where a device has no bf16. optimizer: whose states are counted.
        prices: money an hour by the name of a device, in place of the table's. tariffs: overrides of the tables.
        judged_by: the end of the bands that has to keep to deadline and budget. runnable: only layouts that
            Arriero trains itself. node: devices of one machine.
    """

    goal: Goal
    name: str = ""
    config: ModelConfig | None = None
    models: tuple[str, ...] = ()
    tokens: float | None = None
    deadline: float | None = None
    deadline_text: str = ""
    budget: float | None = None
    hardware: tuple[str, ...] = ()
    max_devices: int = 64
    counts: tuple[int, ...] = ()
    context: int | None = None
    batch_tokens: float | None = None
    methods: tuple[str, ...] = ("full",)
    dtypes: tuple[Dtype, ...] = ()
    optimizer: str = "adamw"
    prices: dict[str, float] = field(default_factory=dict)
    tariffs: dict[str, Any] = field(default_factory=dict)
    judged_by: End = "high"
    runnable: bool = True
    node: int = 8

    @property
    def objective(self) -> Objective:
        """What decides between plans; the fastest where the goal is what fits."""
        return self.goal if self.goal in ("cheapest", "greenest") else "fastest"

    @property
    def device_counts(self) -> tuple[int, ...]:
        """Counts to try, ascending: powers of two up to the most, and the most itself."""
        powers = {2**k for k in range(self.max_devices.bit_length()) if 2**k <= self.max_devices}
        return tuple(sorted(set(self.counts) or powers | {self.max_devices}))

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ArrieroError: says which options and what would be right.
        """
        if self.goal not in GOALS:
            raise ArrieroError(f"--goal {self.goal}: no such goal{did_you_mean(self.goal, GOALS)}")
        for method in self.methods:
            if method not in METHODS:
                raise ArrieroError(f"--method: '{method}' is no method{did_you_mean(method, METHODS)}")
        if self.goal == "best-model":
            self._check_best_model()
        elif not self.name:
            if self.goal != "fits":
                raise ArrieroError(
                    f"--goal {self.goal} needs a model: --model NAME, or a recipe that pretrains one"
                )
        elif self.tokens is None and self.goal != "fits":
            raise ArrieroError(
                f"--goal {self.goal} needs --tokens, such as 10B: how much is it to be trained on?"
            )
        if self.goal == "fits" and len(self.hardware) != 1:
            raise ArrieroError(
                "--goal fits asks what one card can do: name it with --hardware, such as rtx-4090"
            )
        if (
            self.goal == "fits"
            and (self.budget is not None or self.deadline is not None)
            and self.tokens is None
        ):
            raise ArrieroError("--budget and --deadline go with --tokens: how much is to be trained on?")

    def _check_best_model(self) -> None:
        if self.name or self.tokens is not None:
            raise ArrieroError(
                "--goal best-model chooses model and tokens itself: leave out --model and --tokens "
                "(--models a,b,c names candidates)"
            )
        if self.budget is None:
            raise ArrieroError("--goal best-model needs --budget: what may it cost?")


def parse_deadline(text: str, now: datetime) -> float:
    """Seconds from ``now``: "36h", "5d", "90 min", "2w", "Friday 18:00", "2026-11-27", "2026-11-27 18:00".

    A day without a clock time ends at midnight; a weekday is the next one that is still ahead.

    Raises:
        ArrieroError: cannot be read, or is over.
    """
    said = text.strip()
    found = _DURATION.fullmatch(said)
    if found and float(found[1]) > 0:
        return float(found[1]) * _UNITS[found[2]]
    moment = _weekday(said, now) or _date(said)
    if moment is None:
        raise ArrieroError(f"--deadline '{text}': write it as 36h, 5d, 'Friday 18:00' or '2026-11-27 18:00'")
    if moment <= now:
        raise ArrieroError(f"--deadline '{text}' is over")
    return (moment - now).total_seconds()


def _weekday(text: str, now: datetime) -> datetime | None:
    word, _, clock = text.lower().partition(" ")
    matches = [number for number, day in enumerate(_DAYS) if len(word) >= 3 and day.startswith(word)]
    if not matches:
        return None
    at = _CLOCK.fullmatch(clock.strip()) if clock.strip() else None
    if clock.strip() and (at is None or int(at[1]) > 23 or int(at[2]) > 59):
        return None
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    day = midnight + timedelta(days=(matches[0] - now.weekday()) % 7)
    moment = day + (timedelta(hours=int(at[1]), minutes=int(at[2])) if at else timedelta(days=1))
    return moment if moment > now else moment + timedelta(days=7)


def _date(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=None)
    return moment + timedelta(days=1) if len(text) == 10 else moment


def parse_prices(given: tuple[str, ...]) -> dict[str, float]:
    """``h100=2.10`` -> {"h100": 2.1}; a number alone (key "") is for every device.

    Raises:
        ArrieroError: no price, or below 0.
    """
    found = {}
    for text in given:
        name, equals, amount = text.rpartition("=")
        try:
            value = float(amount)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf") or (equals and not name.strip()):
            raise ArrieroError(
                f"--price {text}: write it as h100=2.10, or as 2.10 where one device is asked about"
            )
        found[name.strip()] = value
    return found
