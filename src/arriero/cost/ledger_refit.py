"""From ledgers to points: what every run says of its prediction, with earlier corrections taken out again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from arriero.cost.device import DeviceProfile
from arriero.cost.estimate import Estimate
from arriero.cost.ledger import Ledger
from arriero.cost.ledger_corrections import LEARNT, Learnt, Point, fingerprint
from arriero.cost.meter_result import Measurement

_MOST_ASSUMED = 0.2
"""A measured energy of which more than this was not read off a counter teaches nothing of power."""


@dataclass
class Learning:
    """What a look through the ledgers gave.

    Attributes:
        points: of this machine's runs. foreign: runs left out since another machine or profile predicted them.
    """

    points: list[Point] = field(default_factory=list)
    foreign: int = 0


def points_of(ledgers: list[Ledger], profile: DeviceProfile) -> Learning:
    """Points of the stages that were predicted from this profile.

    Raises:
        DamagedArtifactError: a ledger was changed.
    """
    learning, here = Learning(), fingerprint(profile)
    for ledger in ledgers:
        machine = None
        for record, chain in zip(ledger.read(), ledger.chains, strict=True):
            if record["type"] == "plan":
                machine = record.get("device") or _device_of(ledger.path.parent / str(record.get("file")))
            elif record["type"] == "stage" and "predicted" in record and "measured" in record:
                if machine != here:
                    learning.foreign += 1
                else:
                    learning.points += stage_points(record, chain)
    return learning


def _device_of(plan: Path) -> str | None:
    """The fingerprint of the profile in a stored plan, for ledgers whose plan records do not hold it."""
    try:
        return fingerprint(DeviceProfile.model_validate(json.loads(plan.read_bytes())["device"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def stage_points(record: dict[str, Any], chain: str) -> list[Point]:
    """What one stage's record teaches; nothing where a side is unknown or the stage was resumed after a kill."""
    try:
        predicted = Estimate.model_validate(record["predicted"])
        measured = Measurement.model_validate(record["measured"])
    except ValidationError:
        return []
    applied = record.get("corrected") or {}
    found = []
    for name in LEARNT:
        before, after = (
            _figure(predicted, name, 0.0),
            _figure(measured.estimate, name, measured.assumed_share),
        )
        if not before or not after or (name == "seconds" and measured.segments > 1):
            continue
        raw = before / float(applied.get(name, 1.0))
        found.append(
            Point(
                id=chain, at=record.get("at", ""), kind=record.get("kind", ""), quantity=name,
                log_ratio=math.log(after / raw), disturbed=name == "seconds" and measured.disturbed,
            )
        )  # fmt: skip
    return found


def _figure(estimate: Estimate, name: Learnt, assumed: float | None) -> float | None:
    if name != "power":
        figure: float | None = getattr(estimate, name).value
        return figure
    energy, seconds = estimate.energy.value, estimate.seconds.value
    if assumed is None or assumed > _MOST_ASSUMED or not energy or not seconds:
        return None
    return energy / seconds
