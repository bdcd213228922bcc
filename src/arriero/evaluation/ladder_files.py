"""A law and a reconciliation as files: JSON for programs, CSV for spreadsheets, a picture for people."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from arriero.artifacts import Artifact
from arriero.artifacts.commit import write_bytes_atomic
from arriero.errors import ArrieroError
from arriero.evaluation.ladder_plot import law_plot
from arriero.evaluation.ladder_result import (
    LAW_FILE,
    LAW_PLOT,
    RECONCILIATION_FILE,
    RECONCILIATION_PLOT,
    RUNS_FILE,
    LawResult,
    Reconciliation,
)

Kind = TypeVar("Kind", bound=BaseModel)


def write_law(found: LawResult, folder: Path) -> None:
    """Write all files of the artifact."""
    files = {
        LAW_FILE: found.model_dump_json(indent=2) + "\n",
        RUNS_FILE: runs_csv(found),
        LAW_PLOT: law_plot(found),
    }
    for name, text in files.items():
        write_bytes_atomic(folder / name, text.encode())


def runs_csv(found: LawResult) -> str:
    """The ladder as a table that ``arriero scaling fit`` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "parameters", "tokens", "loss", "fitted"])
    for run in found.runs:
        writer.writerow([run.name, f"{run.parameters:.0f}", f"{run.tokens:.0f}", run.loss, run.fitted])
    return text.getvalue()


def read_law(artifact: Artifact) -> LawResult:
    """The law of an artifact.

    Raises:
        ArrieroError: its law.json cannot be understood.
    """
    return _read(artifact, LAW_FILE, LawResult)


def read_reconciliation(artifact: Artifact) -> Reconciliation:
    """The reconciliation of an artifact.

    Raises:
        ArrieroError: its reconciliation.json cannot be understood.
    """
    return _read(artifact, RECONCILIATION_FILE, Reconciliation)


def _read(artifact: Artifact, name: str, kind: type[Kind]) -> Kind:
    path = artifact.file(name)
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ArrieroError(f"{path} cannot be read: {first}") from None


def write_reconciliation(law: LawResult, found: Reconciliation, folder: Path) -> None:
    """Write both files of the artifact."""
    write_bytes_atomic(folder / RECONCILIATION_FILE, (found.model_dump_json(indent=2) + "\n").encode())
    write_bytes_atomic(folder / RECONCILIATION_PLOT, law_plot(law, found).encode())
