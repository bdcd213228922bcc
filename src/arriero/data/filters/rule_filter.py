"""The heuristic rules as a filter: from the facts in the ledger's columns to a decision, for one document or a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arriero.data.filters.base import Doc, Verdict, at_stored_precision, is_near, numbers_of, strings_of
from arriero.data.filters.presets import WORDS_CUT, Rule, rules_of
from arriero.data.filters.rules import Rules
from arriero.data.filters.stop_words import StopWords
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    import pyarrow as pa

_Numbered = tuple[int, Rule]


class RuleFilter:
    """Presets and thresholds, for some languages other ones. A figure that was not measured breaks no rule."""

    stage = "rules"
    needs: Literal["record", "text"] = "text"

    def __init__(self, rules: Rules, by_language: Mapping[str, Rules] | None = None) -> None:
        """``by_language``: rules in place of ``rules`` for documents of these languages (column ``lang``)."""
        self._by_reason: dict[str, int] = {}
        self._rules = self._numbered(rules)
        self._by_language = {lang: self._numbered(own) for lang, own in (by_language or {}).items()}
        every = [self._rules, *self._by_language.values()]
        self._counts_cuts = any(WORDS_CUT in rule.columns for rules in every for _, rule in rules)
        # whether a rule looks at them or not: other rules may be tried on the ledger
        self._stop_words = StopWords(rules.words) if rules.stop_words == "by_language" else None

    def _numbered(self, rules: Rules) -> list[_Numbered]:
        """Rules with their places in :attr:`reasons`."""
        return [
            (self._by_reason.setdefault(rule.reason, len(self._by_reason)), rule) for rule in rules_of(rules)
        ]

    @property
    def reasons(self) -> Sequence[str]:
        return list(self._by_reason)

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        """``m_words_cut``, where a rule asks for it: the share of the words that the line rules cut; and the facts of
        stop words, where they are those of the document's language."""
        found = self._stop_words.measure(doc) if self._stop_words else {}
        if not self._counts_cuts:
            return found
        before = doc.text if doc.before is None else doc.before
        cut = sum(len(before[e.start : e.end].split()) for e in doc.edits if e.reason.startswith("line."))
        return found | {WORDS_CUT: at_stored_precision(cut / max(len(before.split()), 1) if cut else 0.0)}

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        """The first rule that is broken.

        Raises:
            ArrieroError: a fact is missing.
        """
        for _, rule in self._of(columns.get("lang")):
            value = _value(columns, rule)
            if value < rule.threshold if rule.side == "min" else value > rule.threshold:
                return Verdict(rule.reason, value, rule.threshold, is_near(value, rule.threshold))
        return None

    def nearest(self, columns: Mapping[str, Any]) -> Verdict | None:
        """Of a document that keeps all rules, the one that it only just keeps; None: it keeps them with room."""
        best: Verdict | None = None
        least = np.inf
        for _, rule in self._of(columns.get("lang")):
            value = _value(columns, rule)
            if rule.threshold and is_near(value, rule.threshold):
                distance = abs(value - rule.threshold) / rule.threshold
                if distance < least:
                    best, least = Verdict(rule.reason, value, rule.threshold, True), distance
        return best

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        """Position in :attr:`reasons` of the first broken rule of every row, or -1.

        Raises:
            ArrieroError: the table has not the column of a fact.
        """
        cache: dict[str, NDArray[np.float64]] = {}
        found = _broken(self._rules, table, cache)
        if self._by_language:
            languages = np.array([lang or "" for lang in strings_of(table, "lang")], object)
            for lang, rules in self._by_language.items():
                of_it = languages == lang
                if of_it.any():
                    found[of_it] = _broken(rules, table, cache)[of_it]
        return found

    def _of(self, lang: str | None) -> list[_Numbered]:
        return self._by_language.get(lang, self._rules) if lang else self._rules


def _value(columns: Mapping[str, Any], rule: Rule) -> float:
    try:
        if len(rule.columns) == 1:
            return float(columns[rule.columns[0]])
        return float(max(columns[name] for name in rule.columns))
    except KeyError as error:
        if error.args[0].startswith("m_"):
            return float("nan")
        raise _missing(error.args[0], rule) from None


def _missing(column: str, rule: Rule) -> ArrieroError:
    return ArrieroError(
        f"the rule {rule.reason} needs the column {column}, which was not measured; curate the text again"
    )


def _broken(
    rules: Iterable[_Numbered], table: pa.Table, cache: dict[str, NDArray[np.float64]]
) -> NDArray[np.int64]:
    found = np.full(table.num_rows, -1, np.int64)
    for number, rule in rules:
        for name in rule.columns:
            if name not in table.column_names and not name.startswith("m_"):
                raise _missing(name, rule)
            if name not in cache:
                cache[name] = numbers_of(table, name)
        value = cache[rule.columns[0]]
        for name in rule.columns[1:]:
            value = np.maximum(value, cache[name])
        broken = value < rule.threshold if rule.side == "min" else value > rule.threshold
        found[broken & (found < 0)] = number
    return found
