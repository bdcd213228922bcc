"""Lengths of a training run as people say them: "2e6 tokens", "3 epochs", "500 steps", "20 x parameters", "1 h", "2 %"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from arriero.errors import ArrieroError

_AMOUNT = re.compile(
    r"([0-9][0-9_,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([a-zA-Z%][a-zA-Z%-]*(?:\s+parameters?)?)",
    re.IGNORECASE,
)


MULTIPLE = "x parameters"
_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}


def _split(text: str, units: dict[str, str], example: str) -> tuple[float, str]:
    """("2e6 tokens", ...) -> (2e6, "tokens"); the error names the text and gives a right one."""
    found = _AMOUNT.fullmatch(text.strip())
    unit = units.get(" ".join(found.group(2).lower().split())) if found else None
    if found is None or unit is None:
        known = ", ".join(dict.fromkeys(units.values()))
        raise ValueError(
            f"'{text}' is not understood; write a number and one of {known}, for example '{example}'"
        )
    amount = float(found.group(1).replace("_", "").replace(",", ""))
    if not amount > 0 or not math.isfinite(amount):
        raise ValueError(f"'{text}' should be more than zero, for example '{example}'")
    return amount, unit


def _number(amount: float) -> str:
    return str(int(amount)) if amount == int(amount) else repr(float(amount))


@dataclass(frozen=True)
class Duration:
    """How long to train: in tokens, epochs or optimizer steps, or until the training steps have taken so many seconds,
    of the processor (summed over its cores) or of the clock.

    "20 x parameters" is so many tokens for each parameter of the model (:meth:`for_model`).
    """

    amount: float
    unit: str

    _UNITS: ClassVar[dict[str, str]] = {
        "tokens": "tokens", "token": "tokens", "epochs": "epochs", "epoch": "epochs", "steps": "steps", "step": "steps",
        "cpu-seconds": "cpu-seconds", "cpu-second": "cpu-seconds", "cpu-minutes": "cpu-minutes",
        "cpu-minute": "cpu-minutes", "cpu-hours": "cpu-hours", "cpu-hour": "cpu-hours",
        "seconds": "seconds", "second": "seconds", "s": "seconds", "minutes": "minutes", "minute": "minutes",
        "min": "minutes", "hours": "hours", "hour": "hours", "h": "hours",
        "x parameters": MULTIPLE, "x parameter": MULTIPLE,
    }  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read "2e6 tokens", "3 epochs", "500 steps", "20 x parameters", "100 cpu-seconds" or "1 h".

        Raises:
            ValueError: none of these, or not more than zero.
        """
        amount, unit = _split(text, cls._UNITS, "2e6 tokens")
        if unit == "steps" and amount != int(amount):
            raise ValueError(f"'{text}': steps should be a whole number")
        measure, _, smaller = unit.rpartition("-")
        if smaller in _SECONDS:
            amount, unit = amount * _SECONDS[smaller], "cpu-seconds" if measure else "seconds"
        return cls(amount, unit)

    def __str__(self) -> str:
        return f"{_number(self.amount)} {self.unit}"

    @property
    def timed(self) -> bool:
        """True for seconds: how many samples that is, only the run can tell."""
        return self.unit in ("seconds", "cpu-seconds")

    def for_model(self, n_parameters: int) -> Duration:
        """The same length, told in tokens where it is a multiple of the model's parameters.

        All parameters count, embeddings too and a tied table once: the N of Hoffmann et al. (arXiv 2203.15556), whose
        best use of arithmetic is about 20 tokens a parameter; and the number that a plan prints.
        """
        return Duration(self.amount * n_parameters, "tokens") if self.unit == MULTIPLE else self

    def samples(self, n_samples: int, tokens_per_sample: float, batch_size: int) -> int:
        """Samples to train on. Tokens and steps fill whole batches; an epoch may end with a smaller one.

        Args:
            n_samples: samples in the training set.
            tokens_per_sample: mean tokens a sample is made of (padding not counted).
            batch_size: samples an optimizer step.

        Raises:
            ValueError: the duration is in seconds.
            ArrieroError: it is a multiple of parameters, and nobody has told their number.
        """
        if self.timed:
            raise ValueError(f"{self} are no number of samples")
        if self.unit == MULTIPLE:
            raise ArrieroError(
                f"duration '{self}' is for models that are trained from random weights; give tokens, epochs or steps"
            )
        if self.unit == "epochs":
            return max(1, round(self.amount * n_samples))
        if self.unit == "steps":
            return int(self.amount) * batch_size
        return math.ceil(self.amount / (tokens_per_sample * batch_size)) * batch_size


@dataclass(frozen=True)
class Interval:
    """How often to do something: every so many seconds or steps."""

    amount: float
    unit: str

    _UNITS: ClassVar[dict[str, str]] = {
        "s": "seconds", "seconds": "seconds", "second": "seconds", "min": "minutes", "minutes": "minutes",
        "minute": "minutes", "steps": "steps", "step": "steps",
    }  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read "30 seconds", "5 minutes" or "200 steps".

        Raises:
            ValueError: none of these, or not more than zero.
        """
        amount, unit = _split(text, cls._UNITS, "30 seconds")
        if unit == "steps" and amount != int(amount):
            raise ValueError(f"'{text}': steps should be a whole number")
        return cls(amount * 60, "seconds") if unit == "minutes" else cls(amount, unit)

    def __str__(self) -> str:
        return f"{_number(self.amount)} {self.unit}"

    def due(self, steps: int, seconds: float) -> bool:
        """True when ``steps`` steps or ``seconds`` seconds since the last time are enough."""
        return (steps if self.unit == "steps" else seconds) >= self.amount


@dataclass(frozen=True)
class Warmup:
    """Length of a warm-up: a share of the run, optimizer steps, or tokens."""

    amount: float
    unit: str

    _UNITS: ClassVar[dict[str, str]] = {
        "%": "%", "steps": "steps", "step": "steps", "tokens": "tokens", "token": "tokens"
    }  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> Warmup:
        """Read "2 %", "100 steps" or "1e6 tokens" (or "0": none).

        Raises:
            ValueError: none of these, or a share over 100 %.
        """
        if text.strip() in ("0", "0.0"):
            return cls(0.0, "steps")
        amount, unit = _split(text, cls._UNITS, "2 %")
        if unit == "steps" and amount != int(amount):
            raise ValueError(f"'{text}': steps should be a whole number")
        if unit == "%" and amount > 100:
            raise ValueError(f"'{text}': a share is at most 100 %")
        return cls(amount, unit)

    def __str__(self) -> str:
        return f"{_number(self.amount)} {self.unit}" if self.amount else "0"

    @property
    def share(self) -> float:
        """Share of the run, 0 to 1; 0 where the length is no share."""
        return self.amount / 100 if self.unit == "%" else 0.0


# Settings hold the text in one normal form, so that "3 epoch" and "3 epochs" are the same setting.
DurationText = Annotated[str, AfterValidator(lambda text: str(Duration.parse(text)))]
IntervalText = Annotated[str, AfterValidator(lambda text: str(Interval.parse(text)))]
WarmupText = Annotated[str, AfterValidator(lambda text: str(Warmup.parse(text)))]
