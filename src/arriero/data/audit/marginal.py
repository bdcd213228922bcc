"""What each rule would drop alone, and what only it drops: from the stored facts, whatever the order of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arriero.data.audit.arrays import to_numpy
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.filters.base import NEAR, numbers_of
from arriero.data.filters.presets import Rule, rules_of
from arriero.data.filters.rules import Rules
from arriero.errors import ArrieroError


@dataclass
class Marginal:
    """Of one rule. ``judged``: documents that have the facts; ``alone``: those of them that break it; ``only``: those
    that break it and no other rule; ``first``: those that were dropped for it, as the rules are tried in order."""

    rule: Rule
    judged: int = 0
    alone: int = 0
    alone_bytes: int = 0
    only: int = 0
    first: int = 0

    def to_json(self) -> dict[str, Any]:
        rule = self.rule
        return {
            "reason": rule.reason, "columns": list(rule.columns), "side": rule.side, "threshold": rule.threshold,
            "judged": self.judged, "alone": self.alone, "alone_text_bytes": self.alone_bytes, "only": self.only,
            "first": self.first,
        }  # fmt: skip


def corpus_rules(corpus: CuratedCorpus) -> Rules | None:
    """The rules that the corpus was made with, as its manifest has them; None for a bare folder."""
    if corpus.manifest is None:
        return None
    settings = corpus.manifest.settings
    found = (settings.get("filters") or {}).get("rules") or settings.get("rules")
    return Rules.model_validate(found) if found is not None else None


def rule_values(rule: Rule, table: pa.Table) -> NDArray[np.float64]:
    """What a rule compares, for every row: NaN where it was not measured.

    Raises:
        ArrieroError: the table has not the fact.
    """
    for name in rule.columns:
        if name not in table.column_names and not name.startswith("m_"):
            raise ArrieroError(f"the rule {rule.reason} needs the column {name}, which was not measured")
    values = numbers_of(table, rule.columns[0])
    for name in rule.columns[1:]:
        values = np.maximum(values, numbers_of(table, name))
    return values


def breaks(rule: Rule, values: NDArray[np.float64], threshold: float | None = None) -> NDArray[np.bool_]:
    """Which values break the rule, or break it under another threshold; what was not measured breaks none."""
    limit = rule.threshold if threshold is None else threshold
    return values < limit if rule.side == "min" else values > limit


def rule_columns(rules: Sequence[Rule], have: Sequence[str]) -> list[str]:
    """Columns of the ledger that the rules read, each once."""
    return [name for name in dict.fromkeys(c for rule in rules for c in rule.columns) if name in set(have)]


def marginal_of(corpus: CuratedCorpus, rules: Rules | None = None) -> list[Marginal]:
    """The figures of every rule, in the order of the rules; [] where nobody says what the rules were."""
    rules = rules or corpus_rules(corpus)
    if rules is None:
        return []
    found = [Marginal(rule) for rule in rules_of(rules)]
    columns = rule_columns([m.rule for m in found], corpus.schema.names)
    for _, table in corpus.tables([*columns, "text_bytes", "reason", "stage"]):
        size = to_numpy(table["text_bytes"])
        dropped_for = to_numpy(table["reason"])
        in_rules = to_numpy(table["stage"]) == "rules"
        masks = [breaks(m.rule, rule_values(m.rule, table)) for m in found]
        times = np.sum(masks, axis=0) if masks else np.zeros(table.num_rows, int)
        for one, mask in zip(found, masks, strict=True):
            one.judged += int(np.sum(~np.isnan(rule_values(one.rule, table))))
            one.alone += int(mask.sum())
            one.alone_bytes += int(size[mask].sum())
            one.only += int(np.sum(mask & (times == 1)))
            one.first += int(np.sum(in_rules & (dropped_for == one.rule.reason)))
    return found


def just_kept(rules: Sequence[Rule], table: pa.Table, kept: NDArray[np.bool_]) -> NDArray[Any]:
    """For every row the reason of the rule that a kept document only just keeps, the nearest one; "" for none."""
    nearest = np.full(table.num_rows, "", object)
    least = np.full(table.num_rows, NEAR)
    for rule in rules:
        if not rule.threshold:
            continue
        distance = np.abs(rule_values(rule, table) - rule.threshold) / abs(rule.threshold)
        closer = kept & (distance <= least) & ((distance < least) | (nearest == ""))
        nearest[closer] = rule.reason
        least[closer] = distance[closer]
    return nearest
