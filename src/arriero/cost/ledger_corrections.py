"""What one's own runs say of the predictions: a factor with its spread for each kind of stage and quantity.

Predictions are corrected by factors that were learnt on this machine, with this device profile, and on no other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from arriero.artifacts.commit import write_bytes_atomic
from arriero.artifacts.hashing import sha256_json
from arriero.cost.device import PRODUCTS, DeviceProfile, profile_path
from arriero.cost.estimate import Estimate
from arriero.cost.quantity import Quantity
from arriero.errors import ArrieroError

Learnt = Literal["seconds", "peak_memory", "power"]
LEARNT: tuple[Learnt, ...] = ("seconds", "peak_memory", "power")
"""Power is energy over seconds, where a counter showed the energy: what is wrong with the time is not learnt twice."""
MOST_POINTS = 50
"""Latest runs of a kind that count: the machine, and the code, change."""
_Z80 = 1.2816
"""Standard deviations on either side that hold 80 % of a normal distribution."""
_PRIOR_RUNS = 1.0
"""The prediction as it stands counts like so many runs that it was right for."""
_SPREAD_RUNS = 2.0
"""Its own band counts like so many runs when the spread is judged."""
_LEAST_SPREAD = 0.02
_WIDEST = 100.0
"""Factor below its middle from which on the lower end of a band says nothing more."""
_ENOUGH_CALM = 3
"""From so many undisturbed runs on, disturbed ones are left out."""


class Point(BaseModel):
    """One run of a stage: how the measured quantity relates to the prediction without any correction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    """The ledger record's hash: the same run is never learnt from twice."""
    at: str
    kind: str
    quantity: Learnt
    log_ratio: float
    """Natural logarithm of measured over predicted."""
    disturbed: bool = False


@dataclass(frozen=True)
class Correction:
    """Robust bias and spread of one quantity of one kind of stage.

    Attributes:
        runs: how many. median: of the logarithms of measured over predicted. deviation: their median absolute
            deviation, scaled to a standard deviation.
    """

    kind: str
    runs: int
    median: float
    deviation: float

    @classmethod
    def fit(cls, kind: str, points: Sequence[Point]) -> Correction:
        """From one kind's points of one quantity, at least one of them."""
        latest = sorted(points, key=lambda point: point.at)[-MOST_POINTS:]
        calm = [point for point in latest if not point.disturbed]
        ratios = [point.log_ratio for point in (calm if len(calm) >= _ENOUGH_CALM else latest)]
        middle = statistics.median(ratios)
        deviation = 1.4826 * statistics.median(abs(ratio - middle) for ratio in ratios)
        return cls(kind, len(ratios), middle, deviation)

    @property
    def trust(self) -> float:
        """Share of the bias that is believed: half after one run, nearly all after many."""
        return self.runs / (self.runs + _PRIOR_RUNS)

    @property
    def factor(self) -> float:
        """What a prediction is multiplied by."""
        return math.exp(self.trust * self.median)

    def applied(self, quantity: Quantity) -> Quantity:
        """The corrected prediction. Its band is that of the own runs, blended with the old one while they are few."""
        if not quantity.value or quantity.low is None or quantity.high is None:
            return quantity
        low = max(quantity.low, quantity.value / _WIDEST)
        prior = math.log(quantity.high / low) / 2 / _Z80
        variance = (self.runs * self.deviation**2 + _SPREAD_RUNS * prior**2) / (self.runs + _SPREAD_RUNS)
        spread = _Z80 * math.sqrt(variance * (1 + 1 / self.runs))
        half = max(_LEAST_SPREAD, math.hypot(spread, (1 - self.trust) * self.median))
        value = quantity.value * self.factor
        told = f"× {self.factor:.2f} by {self.runs} own runs of '{self.kind}' here"
        return quantity.model_copy(
            update={
                "value": value, "low": value * math.exp(-half), "high": value * math.exp(half), "basis": "modelled",
                "source": f"{quantity.source}; {told}" if quantity.source else told,
            }
        )  # fmt: skip


@dataclass(frozen=True)
class Corrections:
    """The corrections of one machine, by kind of stage and quantity; empty until something was learnt."""

    found: Mapping[tuple[str, Learnt], Correction] = field(default_factory=dict)

    @classmethod
    def fit(cls, points: Iterable[Point]) -> Corrections:
        groups: dict[tuple[str, Learnt], list[Point]] = {}
        for point in points:
            groups.setdefault((point.kind, point.quantity), []).append(point)
        return cls({key: Correction.fit(key[0], group) for key, group in sorted(groups.items())})

    def of(self, kind: str, quantity: Learnt) -> Correction | None:
        return self.found.get((kind, quantity))

    def applied(self, kind: str, estimate: Estimate) -> Estimate:
        """The estimate with its seconds and memory corrected, before it is priced."""
        changes = {
            name: correction.applied(getattr(estimate, name))
            for name in ("seconds", "peak_memory")
            if (correction := self.of(kind, name)) is not None
        }
        return estimate.model_copy(update=changes)

    def factors(self, kind: str) -> dict[str, float]:
        """By quantity, what a prediction of that kind of stage is multiplied by."""
        return {name: found.factor for name in LEARNT if (found := self.of(kind, name)) is not None}


class _Machine(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: str
    accelerator: str | None
    measured_at: str
    points: list[Point]


class _Store(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["arriero.corrections/1"] = "arriero.corrections/1"
    machines: dict[str, _Machine] = {}


def fingerprint(profile: DeviceProfile) -> str:
    """What a correction holds for: the machine, its libraries, and the very profile that its predictions came from."""
    versions = {name: profile.versions.get(name) for name in ("torch", PRODUCTS)}
    facts = [
        profile.cpu,
        profile.cores,
        profile.threads,
        profile.device,
        profile.accelerator,
        profile.measured_at,
    ]
    return sha256_json([*facts, versions])[:16]


def corrections_path() -> Path:
    """Beside the device profile."""
    return profile_path().with_name("corrections.json")


def load_corrections(profile: DeviceProfile, path: Path | None = None) -> Corrections:
    """What was learnt for predictions from this very profile; nothing when it was measured anew or elsewhere.

    Raises:
        ArrieroError: the file is there but holds no corrections.
    """
    machine = _load(path or corrections_path()).machines.get(fingerprint(profile))
    return Corrections.fit(machine.points) if machine is not None else Corrections()


def learn(
    profile: DeviceProfile, points: Iterable[Point], path: Path | None = None
) -> tuple[Corrections, int]:
    """Add points to what is known of this profile, store it, and return the corrections and how many points were new.

    Raises:
        ArrieroError: see :func:`load_corrections`.
    """
    path = path or corrections_path()
    store, key = _load(path), fingerprint(profile)
    old = store.machines[key].points if key in store.machines else []
    known = {(point.id, point.quantity) for point in old}
    new = [point for point in points if (point.id, point.quantity) not in known]
    kept = sorted([*old, *new], key=lambda point: point.at)
    machine = _Machine(
        cpu=profile.cpu, accelerator=profile.accelerator, measured_at=profile.measured_at, points=kept
    )
    store = store.model_copy(update={"machines": {**store.machines, key: machine}})
    write_bytes_atomic(path, (store.model_dump_json(indent=1) + "\n").encode())
    return Corrections.fit(kept), len(new)


def _load(path: Path) -> _Store:
    try:
        return _Store.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Store()
    except (ValidationError, ValueError):
        raise ArrieroError(
            f"{path} holds no corrections; remove it and run `arriero ledger --refit`"
        ) from None
