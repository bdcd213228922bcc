"""A cluster that trains in step: how often it fails, what a checkpoint and a restart cost.

One device that fails stops all, since every step waits for every device. Failures come as a Poisson process of
rate devices x failures per device-hour, on the wall clock. ``cluster_formula`` has the closed forms,
``cluster_simulate`` the Monte-Carlo runs, ``cluster_answers`` what reaches a target.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from arriero.cost.cluster_table import reliability_table
from arriero.errors import ArrieroError, did_you_mean

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9.eE+-]+)\s*(s|min|h|d)?")
_MOST_FAILURES, _MOST_DRAWS = 50_000, 20_000_000


def _number(value: Any) -> Any:
    """YAML reads ``1e-5`` as text, and pydantic ``true`` as 1."""
    if isinstance(value, bool):
        raise ValueError(f"should be a number, not {str(value).lower()}")
    return value.strip() if isinstance(value, str) else value


def _seconds(value: Any) -> Any:
    """``90``, ``"5 min"``, ``"1.5 h"`` and ``"2 d"`` in seconds."""
    value = _number(value)
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value)
    try:
        return float(found[1]) * _UNITS[found[2] or "s"] if found else value
    except ValueError:
        return value


def _default(name: str) -> float:
    return reliability_table().defaults[name].value


def _from_table(name: str, description: str, *, le: float | None = None) -> Any:
    """A figure of 0 or more whose default is the table's."""
    return Field(default_factory=partial(_default, name), description=description, ge=0, le=le)


Number = Annotated[float, BeforeValidator(_number)]
Count = Annotated[int, BeforeValidator(_number)]
Seconds = Annotated[float, BeforeValidator(_seconds)]


class Cluster(BaseModel):
    """The settings of a simulation. Durations are seconds, or text with a unit: ``"5 min"``, ``"1.5 h"``, ``"2 d"``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    devices: Count = Field(
        default=16384, ge=1, le=10_000_000, description="devices that train in step; one that fails stops all"
    )
    days: Number = Field(default=54.0, gt=0, le=3660, description="length of the run on the wall clock, days")
    gpu: str = Field(
        default="h100",
        description="whose published failure rate to take: h100 (Llama 3), a100, a100-rsc2 (Meta's research clusters)",
    )
    failures_per_device_hour: Number | None = Field(
        default=None,
        ge=0,
        le=1,
        description="your own failure rate, of all kinds together, in place of the gpu's",
    )
    interval: Seconds | None = Field(
        default=None,
        gt=0,
        description="training between two checkpoints: seconds, or '10 min'; by default the best",
    )
    blocking: Seconds = _from_table("blocking", "how long a checkpoint stops training")
    asynchronous: Seconds = _from_table(
        "asynchronous",
        "how long it is then written beside training; lost if a failure comes before its end",
    )
    detection: Seconds = _from_table(
        "detection", "restart, part 1: until a failure is noticed and the culprit known"
    )
    reschedule: Seconds = _from_table(
        "reschedule", "restart, part 2: until sound hosts are there and processes started"
    )
    load: Seconds = _from_table("load", "restart, part 3: until the checkpoint is read")
    warm_up: Seconds = _from_table("warm_up", "restart, part 4: until steps have their usual speed")
    restart: Seconds | None = Field(
        default=None, ge=0, description="the whole restart, in place of its four parts"
    )
    restart_spread: Number = _from_table(
        "restart_spread",
        "spread of restart times: sigma of the log-normal law about that mean; 0: all alike",
        le=3,
    )
    planned_per_day: Number = _from_table(
        "planned_per_day",
        "planned stops a day, evenly spread; they save first and lose no work",
        le=1000,
    )
    planned_stop: Seconds = _from_table("planned_stop", "how long a planned stop lasts")
    jitter: Number = Field(
        default=0.0,
        ge=0,
        le=2,
        description="stragglers: sigma of the log-normal law of one device's step time; a step takes as long as the slowest",
    )
    slow_share: Number = Field(
        default=0.0, ge=0, le=1, description="stragglers: part of the devices that are always slow"
    )
    slow_factor: Number = Field(
        default=1.1,
        ge=1,
        le=100,
        description="stragglers: how much longer a step of a slow device takes (MegaScale saw hosts at 1.1)",
    )
    target: Number = Field(
        default=0.95, gt=0, lt=1, description="effective time to reach: which interval and which restart do?"
    )
    trials: Count = Field(default=200, ge=2, le=100_000, description="Monte-Carlo runs")
    seed: Count = Field(default=0, ge=0, lt=2**31, description="random seed of the Monte-Carlo runs")

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None = None) -> Cluster:
        """The settings, checked.

        Raises:
            ArrieroError: an unknown name (with the nearest right one), a value that makes no sense.
        """
        try:
            return cls.model_validate(dict(settings or {}))
        except ValidationError as error:
            lines = dict.fromkeys(_complaint(cls, item) for item in error.errors(include_url=False))
            raise ArrieroError("; ".join(lines)) from None

    @model_validator(mode="after")
    def _makes_sense(self) -> Cluster:
        if self.failures_per_device_hour is None:
            reliability_table().fleet(self.gpu)
        parts = {"detection", "reschedule", "load", "warm_up"} & self.model_fields_set
        if self.restart is not None and parts:
            raise ArrieroError(f"give restart or its parts ({', '.join(sorted(parts))}), not both")
        if self.interval is not None and self.interval + self.blocking < self.asynchronous:
            raise ArrieroError(
                f"interval {self.interval:g} s is shorter than the asynchronous write, {self.asynchronous:g} s: "
                f"the next checkpoint would wait for it; give {self.asynchronous - self.blocking:g} s or more"
            )
        if self.slow_factor > 1 and "slow_factor" in self.model_fields_set and self.slow_share == 0:
            raise ArrieroError("slow_factor without slow_share changes nothing; give slow_share, e.g. 0.005")
        stopped = self.planned_stops * (self.planned_stop + self.blocking + self.asynchronous)
        if stopped >= self.horizon:
            raise ArrieroError(
                f"{self.planned_stops} planned stops take {stopped / 86400:.3g} of {self.days:g} days; "
                "give fewer (planned_per_day) or shorter ones (planned_stop)"
            )
        failures = self.expected_failures
        if failures > _MOST_FAILURES or failures * self.trials > _MOST_DRAWS:
            raise ArrieroError(
                f"{failures:,.0f} failures are expected in {self.days:g} days, in each of {self.trials:,} trials: "
                f"too many to draw; give fewer days or trials (at most {_MOST_FAILURES:,} failures, {_MOST_DRAWS:,} in all)"
            )
        return self

    @property
    def horizon(self) -> float:
        """Length of the run in seconds of wall clock."""
        return self.days * 86400.0

    @property
    def device_rate(self) -> float:
        """Failures per device-hour."""
        given = self.failures_per_device_hour
        return reliability_table().fleet(self.gpu).failures_per_device_hour if given is None else given

    @property
    def rate(self) -> float:
        """Failures of the whole cluster per second."""
        return self.devices * self.device_rate / 3600.0

    @property
    def mtbf(self) -> float:
        """Mean time between failures of the whole cluster in seconds; infinite without failures."""
        return 1 / self.rate if self.rate else math.inf

    @property
    def expected_failures(self) -> float:
        return self.rate * self.horizon

    @property
    def kinds(self) -> dict[str, float]:
        """Part of the failures that each kind has; an own rate of a device that is not listed has one kind."""
        table = reliability_table()
        name = table.name(self.gpu)
        return {"all kinds": 1.0} if name is None else table.fleets[name].shares

    @property
    def restart_seconds(self) -> float:
        """Mean time from a failure to training again."""
        parts = self.detection + self.reschedule + self.load + self.warm_up
        return parts if self.restart is None else self.restart

    @property
    def planned_stops(self) -> int:
        return round(self.planned_per_day * self.days)

    @property
    def planned_share(self) -> float:
        """Part of the wall clock that planned stops take, each with its checkpoint written to the end."""
        return self.planned_stops * (self.planned_stop + self.blocking + self.asynchronous) / self.horizon


def _complaint(model: type[BaseModel], item: Mapping[str, Any]) -> str:
    """One line for one complaint of pydantic."""
    name = str(item["loc"][0]) if item["loc"] else ""
    if item["type"] == "extra_forbidden":
        return f"unknown setting '{name}'{did_you_mean(name, model.model_fields)}"
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return (
        f"'{name}': {message}, not {item['input']!r}"
        if item["type"] != "value_error"
        else f"'{name}': {message}"
    )
