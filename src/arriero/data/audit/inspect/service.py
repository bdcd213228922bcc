"""What the page may ask: each path is one function of the query that gives JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.inspect.document import cluster_view, document_view, raw_view
from arriero.data.audit.inspect.figures import Histograms
from arriero.data.audit.inspect.listing import Listing, Wanted
from arriero.data.audit.marginal import corpus_rules, marginal_of
from arriero.data.audit.report import REPORT_FILE, build_report
from arriero.data.audit.trace import find_text, trace_row
from arriero.data.filters.presets import rules_of
from arriero.errors import ArrieroError

Query = Mapping[str, str]


class Inspection:
    """One corpus, open for questions; a question at a time reads the disk, so memory is that of one part."""

    def __init__(self, corpus: CuratedCorpus, raw: Path | None = None) -> None:
        self.corpus, self._raw = corpus, raw
        rules = corpus_rules(corpus)
        self._rules = list(rules_of(rules)) if rules else []
        self.histograms = Histograms(corpus, self._rules)
        self._listing = Listing(corpus, self._rules, self.histograms)
        self._lock = threading.Lock()
        self._report: dict[str, Any] | None = None
        self.answers: dict[str, Callable[[Query], Any]] = {
            "overview": self._overview, "histogram": self._histogram, "moved": self._moved, "documents": self._documents,
            "document": lambda q: document_view(corpus, _whole(q, "number"), raw),
            "raw": lambda q: raw_view(trace_row(corpus, corpus.at(_whole(q, "number")), raw=raw)),
            "cluster": lambda q: cluster_view(corpus, _whole(q, "cluster")),
            "find": self._find,
        }  # fmt: skip

    def answer(self, name: str, query: Query) -> Any:
        """
        Raises:
            ArrieroError: there is no such question, or it cannot be answered.
            KeyError: no such question.
        """
        with self._lock:
            return self.answers[name](query)

    def report(self) -> dict[str, Any]:
        """The corpus's own ``report.json``, or one made now where it has none."""
        if self._report is None:
            path = self.corpus.folder / REPORT_FILE
            if path.is_file():
                self._report = json.loads(path.read_bytes())
            else:
                report = build_report(self.corpus)
                report.rules = [one.to_json() for one in marginal_of(self.corpus)]
                self._report = report.to_json()
        return self._report

    def _overview(self, query: Query) -> dict[str, Any]:
        return {
            "folder": str(self.corpus.folder), "name": self.corpus.manifest.name if self.corpus.manifest else self.corpus.folder.name,
            "records": len(self.corpus), "parts": len(self.corpus.parts), "report": self.report(),
            "figures": [figure.to_json() for figure in self.histograms.figures.values()],
        }  # fmt: skip

    def _histogram(self, query: Query) -> dict[str, Any]:
        return self.histograms.histogram(
            query.get("figure", ""), query.get("source", ""), query.get("lang", "")
        )

    def _moved(self, query: Query) -> dict[str, Any]:
        return self.histograms.moved(
            query.get("figure", ""),
            query.get("reason", ""),
            query.get("side", "min"),
            _real(query, "threshold"),
        )

    def _documents(self, query: Query) -> dict[str, Any]:
        return self._listing.page(Wanted.of(query), _whole(query, "start", 0))

    def _find(self, query: Query) -> dict[str, Any]:
        wanted = query.get("text", "").strip()
        row = self.corpus.find(wanted)
        rows = [row] if row is not None else find_text(self.corpus, wanted)
        found = []
        for one in rows:
            found += self._listing.page(Wanted(), one.number, 1)["documents"]
        return {"documents": found, "next": None}


def _whole(query: Query, name: str, default: int | None = None) -> int:
    try:
        return int(query[name])
    except (KeyError, ValueError):
        if default is not None and name not in query:
            return default
        raise ArrieroError(f"{name} should be a whole number") from None


def _real(query: Query, name: str) -> float:
    try:
        value = float(query[name])
    except (KeyError, ValueError):
        raise ArrieroError(f"{name} should be a number") from None
    if value != value:
        raise ArrieroError(f"{name} should be a number")
    return value
