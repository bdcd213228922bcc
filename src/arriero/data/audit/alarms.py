"""Alarms of a drop report: what a person should look at before trusting the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from arriero.data.audit.report import Account, DropReport


class AlarmSettings(BaseModel):
    """From which figures on the drop report raises an alarm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source_drop: float | None = Field(
        default=0.9, ge=0, le=1, description="share of a source's documents that is dropped; null: no alarm"
    )
    rule_drop: float | None = Field(
        default=0.3, ge=0, le=1, description="share of all documents that one rule drops; null: no alarm"
    )
    refused: float | None = Field(
        default=0.05, ge=0, le=1,
        description="share of a source's records that cannot be read or give no text; null: no alarm",
    )  # fmt: skip
    cluster: int | None = Field(
        default=1000, ge=2, description="documents in one cluster of duplicates; null: no alarm"
    )
    language_shift: float | None = Field(
        default=0.2, ge=0, le=1,
        description="change of a language's share of the text from what came in to what was kept; null: no alarm",
    )  # fmt: skip
    least_documents: int = Field(
        default=20, ge=1, description="sources of fewer documents than this raise no alarm by shares"
    )


@dataclass(frozen=True)
class Alarm:
    """``kind`` is the setting that was exceeded, ``of`` what it is about; the message is for people."""

    kind: str
    of: str
    value: float
    threshold: float
    message: str

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "of": self.of, "value": round(self.value, 6), "threshold": self.threshold,
            "message": self.message,
        }  # fmt: skip


def alarms_of(report: DropReport, settings: AlarmSettings) -> list[Alarm]:
    """Every alarm, the gravest kind first."""
    return [
        *_sources(report, settings), *_rules(report, settings), *_clusters(report, settings),
        *_languages(report, settings),
    ]  # fmt: skip


def _sources(report: DropReport, settings: AlarmSettings) -> Iterator[Alarm]:
    for name, account in report.sources.items():
        n = account.came.documents
        if n < settings.least_documents:
            continue
        lost = 1 - account.kept.documents / n
        if settings.source_drop is not None and lost > settings.source_drop:
            main = max(account.dropped, key=lambda key: (account.dropped[key].documents, key))[1]
            yield Alarm(
                "source_drop", name, lost, settings.source_drop,
                f"source {name} loses {lost:.1%} of its {n:,} documents, most to {main}",
            )  # fmt: skip
        refused = (
            sum(s.documents for (stage, _), s in account.dropped.items() if stage in ("read", "extract")) / n
        )
        if settings.refused is not None and refused > settings.refused:
            yield Alarm(
                "refused", name, refused, settings.refused,
                f"{refused:.1%} of the {n:,} records of source {name} cannot be read or give no text",
            )  # fmt: skip


def _rules(report: DropReport, settings: AlarmSettings) -> Iterator[Alarm]:
    n = report.total.came.documents
    if settings.rule_drop is None or n < settings.least_documents:
        return
    for (_, reason), sums in sorted(report.total.dropped.items(), key=lambda item: -item[1].documents):
        share = sums.documents / n
        if share > settings.rule_drop:
            yield Alarm(
                "rule_drop", reason, share, settings.rule_drop,
                f"{reason} drops {share:.1%} of all documents ({sums.documents:,} of {n:,})",
            )  # fmt: skip


def _clusters(report: DropReport, settings: AlarmSettings) -> Iterator[Alarm]:
    if settings.cluster is None:
        return
    for cluster, dropped in sorted(report.tally.clusters.items(), key=lambda item: (-item[1], item[0])):
        size = dropped + 1
        if size <= settings.cluster:
            return
        yield Alarm(
            "cluster", str(cluster), size, settings.cluster,
            f"{size:,} documents form one cluster of duplicates, of which one stays (record {cluster})",
        )  # fmt: skip


def _languages(report: DropReport, settings: AlarmSettings) -> Iterator[Alarm]:
    if settings.language_shift is None or report.total.came.documents < settings.least_documents:
        return
    for name, account in report.languages.items():
        before, after = _share(account, report.total)
        if abs(after - before) > settings.language_shift:
            yield Alarm(
                "language_shift", name, after - before, settings.language_shift,
                f"language {name} has {before:.1%} of the text that came in and {after:.1%} of what was kept",
            )  # fmt: skip


def _share(account: Account, total: Account) -> tuple[float, float]:
    """Share of the text, as it came in and as it was kept."""
    return (
        account.came.text_bytes / max(total.came.text_bytes, 1),
        account.kept.kept_bytes / max(total.kept.kept_bytes, 1),
    )
