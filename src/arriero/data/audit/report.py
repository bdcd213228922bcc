"""The drop report of a corpus: what came in, what each step and rule dropped, what was kept. It closes to zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arriero.artifacts.commit import write_json_atomic
from arriero.data.audit.alarms import AlarmSettings, alarms_of
from arriero.data.audit.curated import SPLITS, CuratedCorpus
from arriero.data.audit.schema import STAGES, STEPS
from arriero.data.audit.tally import Group, Sums, Tally, tally_corpus
from arriero.data.audit.tokens import TokenCount, estimated_tokens
from arriero.errors import ArrieroError

REPORT_FILE = "report.json"
FORMAT = "arriero.drop-report/1"
_ORDER = [*STAGES, *dict.fromkeys(step.partition(".")[0] for step in STEPS)]


@dataclass(frozen=True)
class Written:
    """What the shards of a split hold."""

    documents: int
    text_bytes: int


@dataclass
class Account:
    """What came in, what was kept and what was dropped for which reason, of one source or language or of all."""

    came: Sums = field(default_factory=Sums)
    kept: Sums = field(default_factory=Sums)
    dropped: dict[tuple[str, str], Sums] = field(default_factory=dict)
    """(stage, reason) -> what it dropped."""
    tokens: dict[str, float] = field(default_factory=dict)
    """Estimated tokens by reason, of texts as extracted; ``kept``: of texts after edits."""

    def take(self, group: Group, sums: Sums, bytes_per_token: float) -> None:
        """Count a group in."""
        self.came = self.came.plus(sums)
        text = sums.text_bytes
        if group.stage:
            key = (group.stage, group.reason)
            self.dropped[key] = self.dropped.get(key, Sums()).plus(sums)
        else:
            self.kept = self.kept.plus(sums)
            text = sums.kept_bytes
        name = group.reason or "kept"
        self.tokens[name] = self.tokens.get(name, 0.0) + text / bytes_per_token

    def check(self, name: str) -> None:
        """In must be kept and dropped together, by documents, record bytes and text bytes.

        Raises:
            ArrieroError: it is not; the line says by how much.
        """
        total = self.kept
        for sums in self.dropped.values():
            total = total.plus(sums)
        for what, came, accounted in zip(Sums._fields[:3], self.came, total, strict=False):
            if came != accounted:
                raise ArrieroError(
                    f"the account of {name} does not close: {came:,} {what} came in, {accounted:,} are accounted for"
                    f" (difference {came - accounted:+,}); make the corpus anew"
                )

    def to_json(self) -> dict[str, Any]:
        reasons = sorted(self.dropped, key=lambda key: (-self.dropped[key].documents, key))
        return {
            "in": self._sums(self.came),
            "kept": {**self._sums(self.kept), "kept_bytes": self.kept.kept_bytes, "tokens": round(self.tokens.get("kept", 0))},
            "dropped": {
                reason: {"stage": stage, **self._sums(self.dropped[(stage, reason)]), "tokens": round(self.tokens[reason])}
                for stage, reason in reasons
            },
        }  # fmt: skip

    @staticmethod
    def _sums(sums: Sums) -> dict[str, int]:
        return {"documents": sums.documents, "bytes": sums.bytes, "text_bytes": sums.text_bytes}


@dataclass(frozen=True)
class Step:
    """One stage of the funnel: what reached it and what it dropped."""

    stage: str
    came: int
    dropped: int
    dropped_text_bytes: int


@dataclass
class DropReport:
    """All accounts of a corpus, closed."""

    total: Account
    sources: dict[str, Account]
    languages: dict[str, Account]
    tally: Tally
    token_count: TokenCount
    splits: dict[str, Written]
    alarms: list[dict[str, Any]] = field(default_factory=list)
    rules: list[dict[str, Any]] = field(default_factory=list)
    """What each rule would have dropped alone; see :mod:`arriero.data.audit.marginal`."""

    @property
    def funnel(self) -> list[Step]:
        """Stages that dropped something, in the order in which they ran."""
        left, steps = self.total.came.documents, []
        for stage in sorted({stage for stage, _ in self.total.dropped}, key=stage_rank):
            found = [sums for (of, _), sums in self.total.dropped.items() if of == stage]
            dropped = sum(sums.documents for sums in found)
            steps.append(Step(stage, left, dropped, sum(sums.text_bytes for sums in found)))
            left -= dropped
        return steps

    def to_json(self) -> dict[str, Any]:
        """``report.json``. Bytes: of the records (bytes), of their texts as extracted (text_bytes), and of the texts
        after the worker's edits (kept_bytes); final_bytes is what stands in the corpus."""
        tally = self.tally
        return {
            "format": FORMAT,
            "tokens": self.token_count.to_json(),
            "total": {**self.total.to_json(), "final_bytes": sum(w.text_bytes for w in self.splits.values())},
            "splits": {name: {"documents": w.documents, "text_bytes": w.text_bytes} for name, w in self.splits.items()},
            "funnel": [
                {"stage": s.stage, "in": s.came, "dropped": s.dropped, "dropped_text_bytes": s.dropped_text_bytes}
                for s in self.funnel
            ],
            "rules": self.rules,
            "sources": {name: account.to_json() for name, account in self.sources.items()},
            "languages": {name: account.to_json() for name, account in self.languages.items()},
            "edits": {
                reason: {"edits": count, "characters": tally.edit_characters[reason]}
                for reason, count in sorted(tally.edits.items(), key=lambda item: (-item[1], item[0]))
            },
            "pii": dict(sorted(tally.pii.items(), key=lambda item: (-item[1], item[0]))),
            "licenses": [
                {"license": license, "evidence": evidence, "documents": count}
                for (license, evidence), count in sorted(tally.licenses.items(), key=lambda item: (-item[1], item[0]))
            ],
            "clusters": _cluster_facts(tally),
            "alarms": self.alarms,
        }  # fmt: skip


def stage_rank(stage: str) -> int:
    """Place of a stage in the order in which they run; unknown ones last."""
    return _ORDER.index(stage) if stage in _ORDER else len(_ORDER)


def _cluster_facts(tally: Tally) -> dict[str, Any]:
    sizes = sorted((dropped + 1 for dropped in tally.clusters.values()), reverse=True)
    largest = sorted(tally.clusters.items(), key=lambda item: (-item[1], item[0]))[:20]
    return {
        "clusters": len(sizes),
        "dropped": sum(tally.clusters.values()),
        "largest": [{"cluster": cluster, "size": dropped + 1} for cluster, dropped in largest],
    }


def report_of(
    tally: Tally, token_count: TokenCount, splits: Mapping[str, Written], settings: AlarmSettings
) -> DropReport:
    """The closed accounts that a tally makes.

    Raises:
        ArrieroError: an account does not close, or the shards hold another number of documents than were kept.
    """
    report = DropReport(Account(), {}, {}, tally, token_count, dict(splits))
    for group, sums in sorted(tally.groups.items()):
        ratio = token_count.bytes_per_token(group.source, group.lang)
        for account in (
            report.total,
            report.sources.setdefault(group.source, Account()),
            report.languages.setdefault(group.lang, Account()),
        ):
            account.take(group, sums, ratio)
    report.total.check("the corpus")
    if report.total.came.documents != tally.records:
        difference = tally.records - report.total.came.documents
        raise ArrieroError(
            f"the account of the corpus does not close: {difference:+,} records have no outcome"
        )
    _check_written(report, splits)
    report.alarms = [alarm.to_json() for alarm in alarms_of(report, settings)]
    return report


def _check_written(report: DropReport, splits: Mapping[str, Written]) -> None:
    written = sum(w.documents for w in splits.values())
    if splits and written != report.total.kept.documents:
        kept = report.total.kept.documents
        raise ArrieroError(
            f"the account of the corpus does not close: {kept:,} documents were kept, its shards hold {written:,}"
            f" (difference {kept - written:+,}); make the corpus anew"
        )


def count_shards(corpus: CuratedCorpus) -> dict[str, Written]:
    """Documents and bytes of text in the corpus's shards, counted; {} where none are written yet."""
    found = {}
    for split in SPLITS:
        if corpus.shards(split):
            sizes = [len(document["text"].encode()) for document in corpus.documents(split)]
            found[split] = Written(len(sizes), sum(sizes))
    return found


def build_report(
    corpus: CuratedCorpus,
    *,
    written: Mapping[str, Written] | None = None,
    token_count: TokenCount | None = None,
    alarms: AlarmSettings | None = None,
    tallies: Iterable[Tally] | None = None,
) -> DropReport:
    """The report of a corpus folder.

    Args:
        written: what the writer says of the shards; by default they are read and counted.
        token_count: by default four bytes of text are taken for a token.
        tallies: of all parts, where workers have counted them (:func:`~arriero.data.audit.tally.tally_part`).

    Raises:
        ArrieroError: the report does not close.
    """
    tally = Tally()
    if tallies is None:
        tally = tally_corpus(corpus)
    for one in tallies or ():
        tally.add(one)
    return report_of(
        tally,
        token_count or estimated_tokens(),
        count_shards(corpus) if written is None else written,
        alarms or AlarmSettings(),
    )


def write_report(report: DropReport, folder: Path) -> Path:
    """Put ``report.json`` into the folder."""
    path = Path(folder) / REPORT_FILE
    write_json_atomic(path, report.to_json())
    return path
