"""What a report is made from: everything about one run, collected, with no file left to open."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from arriero.artifacts.manifest import LicenseRecord, SourceRecord
from arriero.cost import Estimate, Quantity


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageLine(_Part):
    """One stage of the run, both sides of its ledger line and what it left."""

    name: str
    kind: str
    makes: str = Field(description="type of artifact: corpus, tokenizer, tokens, model, scores, comparison")
    made: str = Field(
        default="", description="what it made in a few words, e.g. '2.1 M parameters, float32, 8.4 MB'"
    )
    reused: bool = Field(default=False, description="taken from an earlier run; its figures are from then")
    state: Literal["done", "failed", "stopped", "waiting"] = "done"
    error: str | None = Field(default=None, description="what it complained of when it failed")
    key: str = ""
    inputs: list[str] = Field(default=[], description="names of the stages it took its inputs from")
    settings: dict[str, Any] = Field(default={}, description="the settings worth showing")
    facts: dict[str, Any] = Field(default={}, description="the manifest's facts")
    spec: dict[str, Any] = Field(default={}, description="the true spec")
    bytes: int | None = Field(default=None, description="bytes on disk")
    predicted: Estimate | None = None
    measured: Estimate | None = None
    notes: list[str] = Field(default=[], description="what the prediction rests on or leaves out")
    metrics: list[dict[str, Any]] = Field(default=[], description="lines of logs/metrics.jsonl")


class ScoreSheet(_Part):
    """What one evaluate stage found: the contents of its scores.json and samples.json."""

    stage: str
    scores: dict[str, Any]
    samples: dict[str, Any] | None = None


class ComparisonSheet(_Part):
    """What one compare stage found: the contents of its comparison.json."""

    stage: str
    comparison: dict[str, Any]


class LadderSheet(_Part):
    """What one ladder stage found: its law.json, and every reconciliation.json of its predictions."""

    stage: str
    law: dict[str, Any]
    reconciliations: list[dict[str, Any]] = []


class ReportData(_Part):
    """A run, ready to be shown."""

    format: Literal["arriero.report/1"] = "arriero.report/1"
    name: str
    description: str = ""
    started: str | None = None
    ended: str | None = None
    stages: list[StageLine] = Field(description="in the order they ran")
    evaluations: list[ScoreSheet] = []
    comparisons: list[ComparisonSheet] = []
    ladders: list[LadderSheet] = []
    sources: list[SourceRecord] = Field(default=[], description="raw files from outside the run")
    licenses: list[LicenseRecord] = []
    host: dict[str, Any] = {}
    versions: dict[str, str] = {}
    device: dict[str, Any] = Field(
        default={}, description="summary of the device profile, label -> text or figure"
    )
    rests_on: list[str] = Field(default=[], description="data behind the predicted figures, a line each")
    left_out: list[str] = Field(default=[], description="what no figure covers")
    programme: list[str] = Field(
        default=[], description="this run beside the project so far and what is typical"
    )
    command: str = Field(default="", description="what to type to make it again")

    def stage(self, name: str) -> StageLine | None:
        return next((line for line in self.stages if line.name == name), None)


def error_factor(predicted: Quantity | None, measured: Quantity | None) -> float | None:
    """measured / predicted, or None where a side is missing or zero."""
    if predicted is None or measured is None or not predicted.value or not measured.value:
        return None
    return measured.value / predicted.value
