"""From a run folder to the data of its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from arriero.artifacts import Artifact
from arriero.artifacts.artifact import merge_licenses
from arriero.artifacts.lineage import raw_sources
from arriero.artifacts.manifest import LOGS, SourceRecord
from arriero.cost import Estimate, total_estimate
from arriero.cost.device import DeviceProfile
from arriero.cost.ledger import Ledger
from arriero.cost.tariffs import Tariffs
from arriero.cost.units import format_bytes, format_count, format_flops
from arriero.errors import ArrieroError, DamagedArtifactError
from arriero.recipe.context import METRICS, read_metrics
from arriero.recipe.describe import describe_spec
from arriero.recipe.ledger_sums import programme_of
from arriero.recipe.plan import spec_of
from arriero.recipe.report.data import ComparisonSheet, LadderSheet, ReportData, ScoreSheet, StageLine
from arriero.recipe.runfolder import RunFolder


def collect(folder: RunFolder) -> ReportData:
    """Everything that the report of this run folder shows.

    Raises:
        ArrieroError: no run has left anything there, or its ledger or plan was changed.
    """
    records = Ledger(folder.ledger).read() if folder.ledger.exists() else []
    plans = [record for record in records if record["type"] == "plan"]
    if not plans:
        raise ArrieroError(f"{folder.path}: no run has left anything there (it has no {folder.ledger.name})")
    plan = json.loads((folder.path / plans[-1]["file"]).read_text(encoding="utf-8"))
    runs = [record for record in records if record["type"] == "stage"]
    artifacts = {stage["name"]: _artifact(folder, stage["name"], runs) for stage in plan["stages"]}
    found = [artifact for artifact in artifacts.values() if artifact is not None]
    header = _header(folder)
    return ReportData(
        name=plan["recipe"], description=header.get("description") or "",
        started=plans[-1]["at"], ended=runs[-1]["at"] if runs else None,
        stages=[_line(stage, artifacts[stage["name"]], runs) for stage in plan["stages"]],
        evaluations=[_sheet(artifact) for artifact in found if artifact.manifest.makes == "scores"],
        comparisons=[
            ComparisonSheet(stage=artifact.name, comparison=_json(artifact.file("comparison.json")))
            for artifact in found if artifact.manifest.makes == "comparison"
        ],
        ladders=[_ladder(artifact, found) for artifact in found if artifact.manifest.kind == "ladder"],
        sources=_sources(found), licenses=merge_licenses(*(a.manifest.licenses for a in found)),
        host=found[-1].manifest.host if found else {}, versions=found[-1].manifest.versions if found else {},
        device=_device(DeviceProfile.model_validate(plan["device"])),
        rests_on=plan["rests_on"], left_out=plan["left_out"], programme=_programme(folder, header, runs), command=f"arriero run {plan['file']}",
    )  # fmt: skip


def _programme(folder: RunFolder, header: dict[str, Any], runs: list[dict[str, Any]]) -> list[str]:
    """What the stages of the latest recipe took, each once, beside the project so far."""
    took = {run["name"]: run["measured"]["estimate"] for run in runs if "measured" in run}
    if not took:
        return []
    this = total_estimate([Estimate.model_validate(sheet) for sheet in took.values()])
    return programme_of(this, folder, Tariffs.load(header.get("cost") or {}))


def _header(folder: RunFolder) -> dict[str, Any]:
    try:
        value = yaml.safe_load((folder.path / "recipe.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def _artifact(folder: RunFolder, name: str, runs: list[dict[str, Any]]) -> Artifact | None:
    """The artifact of the latest run of that stage, if that run has come so far."""
    latest = next((run for run in reversed(runs) if run["name"] == name), None)
    if latest is None:
        return None
    try:
        return folder.find(latest["key"])
    except DamagedArtifactError:
        return None


def _line(stage: dict[str, Any], artifact: Artifact | None, runs: list[dict[str, Any]]) -> StageLine:
    inputs = [ref for refs in stage["inputs"].values() for ref in refs]
    common = {
        "name": stage["name"],
        "kind": stage["kind"],
        "inputs": inputs,
        "notes": stage["notes"],
        "settings": stage["settings"],
    }
    if artifact is None:
        predicted = None if stage["reused"] else Estimate.model_validate(stage["estimate"])
        return StageLine(**common, makes=stage["spec"]["type"], state="waiting", predicted=predicted)
    manifest = artifact.manifest
    same = [run for run in runs if run["key"] == manifest.key]
    made = next((run for run in reversed(same) if "measured" in run), None)
    measured = made["measured"]["estimate"] if made else manifest.measured.get("estimate")
    return StageLine(
        **common, makes=manifest.makes, made=describe_spec(spec_of(artifact)),
        reused=bool(same and same[-1]["reused"]), key=manifest.key, facts=manifest.facts, spec=manifest.spec, bytes=artifact.bytes,
        predicted=Estimate.model_validate(made["predicted"]) if made else None,
        measured=Estimate.model_validate(measured) if measured else None,
        metrics=read_metrics(artifact.path / LOGS / METRICS),
    )  # fmt: skip


def _sheet(artifact: Artifact) -> ScoreSheet:
    samples = artifact.file("samples.json")
    return ScoreSheet(
        stage=artifact.name, scores=_json(artifact.file("scores.json")),
        samples=_json(samples) if samples.exists() else None,
    )  # fmt: skip


def _ladder(law: Artifact, found: list[Artifact]) -> LadderSheet:
    """A law with the reconciliations that were made with it."""
    checks = [
        artifact for artifact in found
        if artifact.manifest.makes == "reconciliation"
        and law.manifest.content in {record.content for record in artifact.manifest.inputs}
    ]  # fmt: skip
    return LadderSheet(
        stage=law.name, law=_json(law.file("law.json")),
        reconciliations=[_json(artifact.file("reconciliation.json")) for artifact in checks],
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {"items": value}


def _sources(artifacts: list[Artifact]) -> list[SourceRecord]:
    found: dict[str, SourceRecord] = {}
    for artifact in artifacts:
        for source in raw_sources(artifact):
            found.setdefault(source.sha256, source)
    return list(found.values())


def _device(profile: DeviceProfile) -> dict[str, Any]:
    """The device profile in a few lines for people."""
    best: dict[str, float] = {}
    for point in profile.matmul:
        best[point.dtype] = max(best.get(point.dtype, 0.0), point.flops_per_s)
    return {
        "processor": profile.cpu, "cores": profile.cores, "threads": profile.threads,
        "memory": format_bytes(profile.memory_bytes), "measured": profile.measured_at[:16].replace("T", " "),
        **{f"matmul {dtype}": f"{format_flops(rate)}/s at best" for dtype, rate in best.items()},
        "copy": f"{format_bytes(profile.copy_bytes_per_s)}/s",
        "AdamW": f"{format_count(profile.optimizer_params_per_s)} parameters/s",
        "bf16 pays": "yes" if profile.bf16_pays else "no",
    }  # fmt: skip
