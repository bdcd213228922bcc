"""What curation dropped, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arriero.cost.units import format_bytes, format_count
from arriero.recipe.report.data import ReportData, StageLine


@dataclass(frozen=True)
class Bar:
    """One reason, or what was kept: documents and bytes, and their share of all documents in per cent."""

    label: str
    documents: str
    bytes: str
    share: float
    share_text: str
    kept: bool


@dataclass(frozen=True)
class SourceRow:
    name: str
    documents: str
    bytes: str
    kept: str
    main_reason: str


@dataclass(frozen=True)
class Curation:
    """One curate stage."""

    stage: str
    sentence: str
    bars: list[Bar]
    sources: list[SourceRow]


def curations(data: ReportData) -> list[Curation]:
    """Every stage whose facts hold an account of documents in, kept and dropped."""
    return [
        _curation(stage, stage.facts["total"])
        for stage in data.stages
        if _has_account(stage.facts.get("total"))
    ]


def _has_account(total: Any) -> bool:
    return isinstance(total, dict) and {"in", "kept", "dropped"} <= total.keys()


def _curation(stage: StageLine, total: dict[str, Any]) -> Curation:
    n = total["in"]["documents"]
    bars = [_bar("kept", total["kept"], n, kept=True)]
    bars += [_bar(reason.replace("_", " "), found, n) for reason, found in total["dropped"].items()]
    kept = total["kept"]
    sentence = (
        f"Of {n:,} documents ({format_bytes(total['in']['bytes'])}) {kept['documents']:,} "
        f"({format_bytes(kept['bytes'])}) were kept; every drop is recorded with its reason."
    )
    sources = [_source(name, row) for name, row in stage.facts.get("sources", {}).items()]
    return Curation(stage.name, sentence, bars, sources)


def _bar(label: str, found: dict[str, Any], n: int, *, kept: bool = False) -> Bar:
    share = 100 * found["documents"] / n if n else 0.0
    text = f"{share:.1f} %" if share >= 0.1 or not share else "< 0.1 %"
    return Bar(
        label, format_count(found["documents"]), format_bytes(found["bytes"]), round(share, 3), text, kept
    )


def _source(name: str, row: dict[str, Any]) -> SourceRow:
    n, kept = row["in"]["documents"], row["kept"]["documents"]
    dropped = row["dropped"]
    main = max(dropped, key=lambda reason: dropped[reason]["documents"], default=None)
    return SourceRow(
        name=name, documents=f"{n:,}", bytes=format_bytes(row["in"]["bytes"]),
        kept=f"{100 * kept / n:.1f} %" if n else "none came in",
        main_reason=f"{main.replace('_', ' ')} ({dropped[main]['documents']:,})" if main else "nothing dropped",
    )  # fmt: skip
