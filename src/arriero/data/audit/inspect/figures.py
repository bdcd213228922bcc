"""Histograms of one figure over all documents, and how many of them another threshold would move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.marginal import breaks, rule_columns, rule_values
from arriero.data.audit.schema import FACT, MEASURE, describe
from arriero.data.filters.base import numbers_of
from arriero.data.filters.presets import Rule
from arriero.errors import ArrieroError, did_you_mean

BINS = 72
_SAMPLE = 200_000
"""Values from which the range of a histogram is taken."""
_MOST = 2_000_000
"""Values that are held to answer what a threshold moves; of more, every n-th."""
_LOG_FROM = 20.0
"""Figures whose far quantile is this many times their median are shown on a logarithmic scale."""


@dataclass(frozen=True)
class Figure:
    """Something that has one number a document: a column, or what a rule over two columns compares."""

    name: str
    columns: tuple[str, ...]
    doc: str
    rules: tuple[Rule, ...]

    def values(self, table: pa.Table) -> NDArray[np.float64]:
        found = numbers_of(table, self.columns[0])
        for name in self.columns[1:]:
            found = np.maximum(found, numbers_of(table, name))
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "doc": self.doc, "label": self.name.removeprefix(FACT).removeprefix(MEASURE),
            "rules": [{"reason": r.reason, "side": r.side, "threshold": r.threshold} for r in self.rules],
        }  # fmt: skip


def figures_of(corpus: CuratedCorpus, rules: Sequence[Rule]) -> list[Figure]:
    """Every figure of a corpus, those that a rule reads first."""
    docs = describe(corpus.schema)
    found = []
    for name in [*corpus.figures, *(["lang_score"] if "lang_score" in corpus.schema.names else [])]:
        own = tuple(rule for rule in rules if rule.columns == (name,))
        found.append(Figure(name, (name,), docs.get(name, ""), own))
    for rule in rules:
        if len(rule.columns) > 1:
            doc = f"the greatest of {', '.join(c.removeprefix(FACT) for c in rule.columns)}"
            found.append(Figure(rule.reason, rule.columns, doc, (rule,)))
    return sorted(found, key=lambda figure: not figure.rules)


class Histograms:
    """Answers about the figures of one corpus."""

    def __init__(self, corpus: CuratedCorpus, rules: Sequence[Rule]) -> None:
        self._corpus, self._rules = corpus, list(rules)
        self.figures = {figure.name: figure for figure in figures_of(corpus, rules)}
        self._margin = lru_cache(maxsize=4)(self._make_margin)

    def figure(self, name: str) -> Figure:
        """
        Raises:
            ArrieroError: there is no such figure.
        """
        if name not in self.figures:
            raise ArrieroError(f"there is no figure '{name}'{did_you_mean(name, self.figures)}")
        return self.figures[name]

    def histogram(self, name: str, source: str = "", lang: str = "") -> dict[str, Any]:
        """Counts by bin of documents that were kept, that a rule on this figure dropped, and that others dropped."""
        figure = self.figure(name)
        edges, log = self._edges(figure)
        reasons = pa.array([rule.reason for rule in figure.rules], pa.string())
        counts = np.zeros((3, len(edges) - 1), np.int64)
        missing = 0
        for table in self._tables(figure, source, lang):
            values = figure.values(table)
            kept = pc.equal(table["stage"], "").to_numpy(zero_copy_only=False)
            by_this = pc.is_in(table["reason"], reasons).to_numpy(zero_copy_only=False) & ~kept
            there = ~np.isnan(values)
            missing += int(np.sum(~there))
            clipped = np.clip(values, edges[0], edges[-1])
            for number, mask in enumerate((kept, by_this, ~kept & ~by_this)):
                counts[number] += np.histogram(clipped[mask & there], edges)[0]
        return {
            **figure.to_json(), "edges": [float(e) for e in edges], "log": log, "missing": missing,
            "kept": counts[0].tolist(), "by_this": counts[1].tolist(), "by_others": counts[2].tolist(),
        }  # fmt: skip

    def moved(self, name: str, reason: str, side: str, threshold: float) -> dict[str, Any]:
        """How many documents change side when ``reason``'s threshold (or that of a new rule, where it is empty) is
        another: those that come in because no other rule drops them, and kept ones that fall."""
        figure = self.figure(name)
        rule = next((r for r in figure.rules if r.reason == reason), None)
        if rule is None:
            rule = Rule("new", f"{'min' if side == 'min' else 'max'}_{name}", figure.columns, threshold)
        inside, outside, step = self._margin(figure, rule)
        side_of: Literal["left", "right"] = "left" if rule.side == "min" else "right"
        place = [int(np.searchsorted(values, threshold, side_of)) for values in (inside, outside)]
        falls = place[0] if rule.side == "min" else len(inside) - place[0]
        comes = len(outside) - place[1] if rule.side == "min" else place[1]
        return {
            "newly_kept": comes * step, "newly_dropped": falls * step, "exact": step == 1, "kept": len(inside) * step,
        }  # fmt: skip

    def _make_margin(
        self, figure: Figure, rule: Rule
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """Sorted values of the kept documents, and of those that this rule alone keeps out."""
        others = [one for one in self._rules if one.reason != rule.reason]
        columns = [*rule_columns([*others, rule], self._corpus.schema.names), *figure.columns, "stage"]
        step = max(1, len(self._corpus) // _MOST)
        inside, outside = [], []
        for _, table in self._corpus.tables(list(dict.fromkeys(columns))):
            values = figure.values(table)
            stage = table["stage"].to_numpy(zero_copy_only=False)
            inside.append(values[stage == ""])
            alone = (stage == "rules") & breaks(rule, values)
            for other in others:
                alone &= ~breaks(other, rule_values(other, table))
            outside.append(values[alone])
        kept, out = (np.sort(np.concatenate(part))[::step] for part in (inside, outside))
        return kept[~np.isnan(kept)], out, step

    def _tables(self, figure: Figure, source: str, lang: str) -> Iterator[pa.Table]:
        for _, table in self._corpus.tables([*figure.columns, "stage", "reason", "source", "lang"]):
            if source:
                table = table.filter(pc.equal(pc.cast(table["source"], pa.string()), source))
            if lang:
                table = table.filter(pc.equal(table["lang"], lang))
            yield table

    def _edges(self, figure: Figure) -> tuple[NDArray[np.float64], bool]:
        step = max(1, len(self._corpus) // _SAMPLE)
        parts = [figure.values(table)[::step] for _, table in self._corpus.tables(list(figure.columns))]
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        limits = [rule.threshold for rule in figure.rules]
        if not values.size:
            return np.linspace(0.0, max([1.0, *limits]), BINS + 1), False
        low, middle, high = np.quantile(values, [0.002, 0.5, 0.998])
        low, high = min([low, *limits]), max([high, *(limit for limit in limits if limit <= 50 * high)])
        log = bool(low >= 0 and high > 50 and high > _LOG_FROM * max(middle, 1.0))
        if log:
            edges = np.unique(np.concatenate([[0.0], np.geomspace(max(low, 1.0), high * 1.05, BINS)]))
            return edges, True
        if float(high) == float(low):
            low, high = low - 0.5, high + 0.5
        if np.all(values == np.floor(values)) and high - low <= BINS:  # small counts: a bin each
            return np.arange(np.floor(low), np.ceil(high) + 2) - 0.5, False
        return np.linspace(low, high + (high - low) * 0.02, BINS + 1), False
