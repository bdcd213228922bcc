"""Which document of a cluster stays: a declared rule, never "the one seen first"."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arriero.data.audit.arrays import to_numpy
from arriero.data.audit.ledger import open_table
from arriero.data.dedup.rows import ROW, pack, save_array
from arriero.data.dedup.settings import Dedup
from arriero.data.dedup.steps import Job
from arriero.data.pipeline.part import LEDGER, Part
from arriero.errors import ArrieroError

_DIGITS = re.compile(r"\d{4}(?:-?\d{2}){0,2}")


def survivor_order(rows: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions by the rule: greater score first, ties by global row number."""
    return np.lexsort((rows, -scores))


def prepare_rows(job: Job) -> None:
    """Of a part, what all steps need: which rows the rules kept, and their scores."""
    settings: Dedup = job.settings
    part = Part(Path(job.part.path))
    names = {"stage", "kept_bytes"} | set(_columns(settings))
    missing = names - set(open_table(part.folder / LEDGER).schema_arrow.names)
    if missing:
        raise ArrieroError(
            f"the ledger of {part.name} has no column '{min(missing)}', by which survivors are chosen"
        )
    table = part.ledger(sorted(names))
    kept_bytes = np.asarray(to_numpy(table["kept_bytes"]), np.int64)
    alive = np.array([stage == "" for stage in table["stage"].to_pylist()], np.bool_)
    alive &= part.frames()[:, 0] >= 0
    score = kept_bytes.astype(np.float64)
    if settings.survivor == "first":
        score = np.zeros(len(alive))
    elif settings.survivor == "newest":
        score = np.array([date_score(date) for date in table["date"].to_pylist()], np.float64)
    elif settings.quality is not None:
        score = np.nan_to_num(to_numpy(table[settings.quality]).astype(np.float64), nan=-np.inf)
    save_array(job.output, pack(ROW, alive=alive, score=score, bytes=kept_bytes))


def _columns(settings: Dedup) -> list[str]:
    if settings.survivor == "newest":
        return ["date"]
    return [settings.quality] if settings.quality is not None else []


def date_score(date: str | None) -> float:
    """Seconds since 1970 of a date as records have them (ISO 8601, or as in e-mail); -inf where there is none.

    A date without a zone counts as UTC.
    """
    if not date:
        return -np.inf
    try:
        found = datetime.fromisoformat(date.strip())
    except ValueError:
        try:
            found = parsedate_to_datetime(date)
        except (ValueError, TypeError, IndexError):
            return _of_digits(date)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _of_digits(date: str) -> float:
    match = _DIGITS.search(date)
    digits = match.group().replace("-", "") if match else ""
    try:
        return datetime(int(digits[:4]), int(digits[4:6] or 1), int(digits[6:8] or 1), tzinfo=UTC).timestamp()
    except ValueError:
        return -np.inf
