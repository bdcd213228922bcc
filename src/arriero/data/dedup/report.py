"""The account of a de-duplication: what came, what fell at which step, what was cut, and what should be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from arriero.data.dedup.settings import Dedup

_NAMED = 20


@dataclass
class SourceCount:
    """Figures of one source; ``dropped`` and ``cut``: step -> [documents, bytes], [spans, characters]."""

    documents: int = 0
    bytes: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Documents that stay."""
        return self.documents - sum(documents for documents, _ in self.dropped.values())

    def add(self, other: Mapping[str, Any]) -> None:
        """Add the counts of a part."""
        self.documents += other["documents"]
        self.bytes += other["bytes"]
        for mine, theirs in ((self.dropped, other["dropped"]), (self.cut, other["cut"])):
            for step, (number, size) in theirs.items():
                pair = mine.setdefault(step, [0, 0])
                pair[0] += number
                pair[1] += size


@dataclass
class DedupReport:
    """Everything that was found. ``steps``: what each step says of itself; ``alarms``: lines for people."""

    sources: dict[str, SourceCount]
    steps: dict[str, dict[str, Any]]
    largest_clusters: list[tuple[str, int]]
    alarms: list[str]

    @property
    def total(self) -> SourceCount:
        """Sums over all sources."""
        total = SourceCount()
        for source in self.sources.values():
            total.add(asdict(source))
        return total

    def record(self) -> dict[str, Any]:
        """As JSON; the counts close: documents = kept + dropped of all steps."""
        total = self.total
        return {
            "total": {**asdict(total), "kept": total.kept},
            "sources": {
                name: {**asdict(one), "kept": one.kept} for name, one in sorted(self.sources.items())
            },
            "steps": self.steps,
            "largest_clusters": [list(pair) for pair in self.largest_clusters],
            "alarms": self.alarms,
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> DedupReport:
        """The report that :meth:`record` wrote."""
        sources = {
            name: SourceCount(**{key: value for key, value in one.items() if key != "kept"})
            for name, one in record["sources"].items()
        }
        largest = [(name, size) for name, size in record["largest_clusters"]]
        return cls(sources, record["steps"], largest, record["alarms"])


def make_report(
    parts: Sequence[Mapping[str, Any]], steps: dict[str, dict[str, Any]], settings: Dedup
) -> DedupReport:
    """The report of the parts' counts."""
    sources: dict[str, SourceCount] = {}
    large: dict[str, int] = {}
    for part in parts:
        for name, counts in part["sources"].items():
            sources.setdefault(name, SourceCount()).add(counts)
        large.update(part["large_clusters"])
    largest = sorted(large.items(), key=lambda pair: (-pair[1], pair[0]))
    alarms = [
        f"{name.split()[0]}: a cluster of {size:,} documents, over max_cluster {settings.max_cluster:,}"
        f" (cluster {name.split()[1]})"
        for name, size in largest[:_NAMED]
    ]
    linked = steps.get("duplicate.near", {}).get("largest_linked", 0)
    if linked > settings.max_cluster:
        alarms.append(
            f"duplicate.near: a chain of similar pairs links {linked:,} documents; each fell only to a survivor that"
            " it is itself similar to"
        )
    for name, source in sorted(sources.items()):
        lost = 1 - source.kept / source.documents if source.documents else 0.0
        if lost > settings.max_source_loss:
            alarms.append(
                f"source '{name}' loses {lost:.1%} of its {source.documents:,} documents, over max_source_loss"
                f" {settings.max_source_loss:.0%}"
            )
    return DedupReport(sources, steps, largest[:_NAMED], alarms)
