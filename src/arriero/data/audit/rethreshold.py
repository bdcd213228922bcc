"""Other thresholds on the stored facts: which documents change sides, without reading a text again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.schema import FACT, MEASURE, STAGES
from arriero.data.filters import FilterSettings, Rules, build_filters, judge_document, judge_table
from arriero.data.filters.base import Filter
from arriero.data.filters.build import measure_names
from arriero.data.pipeline.part import Part
from arriero.errors import ArrieroError, did_you_mean

JUDGED = frozenset({"", "list", "optout", "language", "rules", "perplexity", "classifier"})
"""Stages of the worker whose verdict is made anew; what was refused before stays refused."""
_EXAMPLES = 5


@dataclass
class Change:
    """What the workers' verdicts come to under the old and the new settings. Duplicates are not looked at here."""

    old: Counter[str] = field(default_factory=Counter)
    """Documents by reason; ``""``: kept."""
    new: Counter[str] = field(default_factory=Counter)
    old_bytes: Counter[str] = field(default_factory=Counter)
    """Bytes of text after edits, by reason."""
    new_bytes: Counter[str] = field(default_factory=Counter)
    newly_kept: int = 0
    newly_dropped: int = 0
    unmeasured: int = 0
    """Newly kept documents that a later filter never saw: they pass it."""
    sources: dict[str, list[int]] = field(default_factory=dict)
    """Source -> [kept before, kept now]."""
    examples: dict[str, list[str]] = field(default_factory=lambda: {"newly_kept": [], "newly_dropped": []})
    """Ids of some documents that change sides."""

    def to_json(self) -> dict[str, Any]:
        reasons = sorted(
            set(self.old) | set(self.new), key=lambda r: (r != "", -self.old[r], -self.new[r], r)
        )
        return {
            "reasons": {
                reason or "kept": {
                    "old": self.old[reason], "new": self.new[reason], "old_bytes": self.old_bytes[reason],
                    "new_bytes": self.new_bytes[reason],
                }
                for reason in reasons
            },
            "newly_kept": self.newly_kept, "newly_dropped": self.newly_dropped, "unmeasured": self.unmeasured,
            "sources": {name: {"old": pair[0], "new": pair[1]} for name, pair in sorted(self.sources.items())},
            "examples": self.examples,
        }  # fmt: skip


def filter_settings(corpus: CuratedCorpus) -> FilterSettings:
    """The filters that a corpus was made with.

    Raises:
        ArrieroError: it has no manifest.
    """
    if corpus.manifest is None:
        raise ArrieroError(
            f"{corpus.folder} does not say which rules it was made with: it has no manifest.json"
        )
    settings = corpus.manifest.settings
    given = settings.get("filters") or {k: settings[k] for k in FilterSettings.model_fields if k in settings}
    given = {
        **given,
        "rules": {"stop_words": "english", **given.get("rules", {})},
    }  # so it was before there was more
    return FilterSettings.model_validate(given)


@dataclass(frozen=True)
class Verdicts:
    """Of every row of a part: stage, reason, and whether the row was judged anew."""

    stage: NDArray[Any]
    reason: NDArray[Any]
    judged: NDArray[np.bool_]


class Rethreshold:
    """A corpus's ledger under other filters."""

    def __init__(self, corpus: CuratedCorpus, settings: FilterSettings) -> None:
        """
        Raises:
            ArrieroError: the settings edit texts otherwise than the corpus's own, or need a fact that is not there.
        """
        self.corpus, self.settings = corpus, settings
        old = filter_settings(corpus)
        if settings.line_rules != old.line_rules:
            raise ArrieroError(
                "line_rules change the texts themselves, and the facts with them; curate again for that"
            )
        if settings.rules.stop_words != old.rules.stop_words:
            raise ArrieroError(
                f"the ledger counts stop words {old.rules.stop_words}; curate again for {settings.rules.stop_words}"
            )
        if settings.rules.words != old.rules.words:
            raise ArrieroError(
                f"the facts count words by '{old.rules.words}'; curate again for '{settings.rules.words}'"
            )
        self.filters: list[Filter] = build_filters(settings)
        have = set(corpus.schema.names)
        self._measures = [name for name in measure_names(settings) if name in have]
        missing = [name for name in measure_names(settings) if name not in have]
        if missing:
            raise ArrieroError(
                f"{missing[0].removeprefix(MEASURE)} was not measured for this corpus; curate again for it"
            )

    def preview(self) -> Change:
        """Old beside new, over all parts; memory is that of one."""
        change = Change()
        for part in self.corpus.parts:
            self._count(part, change)
        return change

    def verdicts(self, table: pa.Table) -> Verdicts:
        """The new verdicts on a part's ledger."""
        judged = _judged(table)
        stage, reason = (table[name].to_numpy(zero_copy_only=False).copy() for name in ("stage", "reason"))
        found = judge_table(self.filters, table)
        names = [list(each.reasons) for each in self.filters]
        stage[judged], reason[judged] = "", ""
        for row in np.flatnonzero(judged & (found.filter >= 0)):
            stage[row] = self.filters[found.filter[row]].stage
            reason[row] = names[found.filter[row]][found.reason[row]]
        return Verdicts(stage, reason, judged)

    def new_ledger(self, part: Part) -> pa.Table:
        """A part's ledger with the new verdicts; all other columns stay."""
        table = part.ledger()
        verdicts = self.verdicts(table)
        new: dict[str, list[Any]] = {
            name: table[name].to_pylist() for name in ("value", "threshold", "near_miss")
        }
        for row in np.flatnonzero(verdicts.judged):
            columns = table.slice(row, 1).to_pylist()[0] if verdicts.stage[row] else {}
            verdict = judge_document(self.filters, columns) if columns else None
            new["value"][row] = verdict[1].value if verdict else None
            new["threshold"][row] = verdict[1].threshold if verdict else None
            new["near_miss"][row] = bool(verdict and verdict[1].near_miss)
        for name, values in {**new, "stage": verdicts.stage, "reason": verdicts.reason}.items():
            index = table.schema.get_field_index(name)
            table = table.set_column(
                index, table.schema.field(index), pa.array(values, table.schema.field(index).type)
            )
        return table

    def _count(self, part: Part, change: Change) -> None:
        table = part.ledger()
        verdicts = self.verdicts(table)
        old = table["reason"].to_numpy(zero_copy_only=False)
        size = table["kept_bytes"].to_numpy()
        _add(change.old, change.old_bytes, old, size)
        _add(change.new, change.new_bytes, verdicts.reason, size)
        was, now = table["stage"].to_numpy(zero_copy_only=False) == "", verdicts.stage == ""
        comes, falls = now & ~was, was & ~now
        change.newly_kept += int(comes.sum())
        change.newly_dropped += int(falls.sum())
        change.unmeasured += int(np.sum(comes & self._unmeasured(table)))
        for name, rows in (("newly_kept", comes), ("newly_dropped", falls)):
            room = _EXAMPLES - len(change.examples[name])
            change.examples[name] += [table["id"][int(row)].as_py() for row in np.flatnonzero(rows)[:room]]
        sources = pc.cast(table["source"], pa.string()).to_numpy(zero_copy_only=False)
        for source in np.unique(sources.astype(str)):
            pair = change.sources.setdefault(str(source), [0, 0])
            pair[0] += int(np.sum(was & (sources == source)))
            pair[1] += int(np.sum(now & (sources == source)))

    def _unmeasured(self, table: pa.Table) -> NDArray[np.bool_]:
        missing = np.zeros(table.num_rows, bool)
        for name in self._measures:
            values = table[name].cast("float64").to_numpy(zero_copy_only=False)
            missing |= np.isnan(values.astype(np.float64))
        return missing


def _judged(table: pa.Table) -> NDArray[np.bool_]:
    """Rows that have facts and that no step before the filters refused."""
    stage = table["stage"]
    known = pc.is_in(stage, pa.array(sorted(JUDGED & {"", *STAGES}), pa.string())).to_numpy(
        zero_copy_only=False
    )
    fact = next((name for name in table.schema.names if name.startswith(FACT)), None)
    return known if fact is None else known & pc.is_valid(table[fact]).to_numpy(zero_copy_only=False)


def _add(
    documents: Counter[str], size: Counter[str], reasons: NDArray[Any], n_bytes: NDArray[np.int64]
) -> None:
    names, places = np.unique(reasons.astype(str), return_inverse=True)
    counts, sums = np.bincount(places, minlength=len(names)), np.bincount(places, n_bytes, len(names))
    for name, count, total in zip(names, counts, sums, strict=True):
        documents[str(name)] += int(count)
        size[str(name)] += int(total)


def changed_settings(
    old: FilterSettings,
    *,
    rules: Mapping[str, Any] | None = None,
    presets: Sequence[str] = (),
    sets: Sequence[str] = (),
) -> FilterSettings:
    """Settings with other rules.

    Args:
        rules: in place of the old rules; a mapping with the key ``rules`` replaces every filter that it names.
        presets: in place of the old presets, with the presets' own thresholds.
        sets: ``name=value`` of a rule (``min_words=20``), or of another filter by its path (``language.min_score=0.5``,
            ``classifiers.0.min_score=0.3``); ``null`` switches a threshold off.

    Raises:
        ArrieroError: a name or a value is wrong.
    """
    import yaml
    from pydantic import ValidationError

    data = old.model_dump()
    if rules is not None:
        data.update(rules if "rules" in rules else {"rules": dict(rules)})
    if presets:
        data["rules"] = {"presets": list(presets), "words": old.rules.words}
    if isinstance(data["rules"], dict):
        data["rules"].setdefault("stop_words", old.rules.stop_words)
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ArrieroError(f"--set '{text}' should be NAME=VALUE")
        _put(data, name if "." in name else f"rules.{name}", yaml.safe_load(value), text)
    try:
        return FilterSettings.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = Rules.model_fields if first["loc"][0] == "rules" else FilterSettings.model_fields
            raise ArrieroError(
                f"there is no setting '{where}'{did_you_mean(str(first['loc'][-1]), known)}"
            ) from None
        raise ArrieroError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None


def _put(data: dict[str, Any], path: str, value: Any, text: str) -> None:
    *parents, last = path.split(".")
    place: Any = data
    try:
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[int(last) if isinstance(place, list) else last] = value
    except (KeyError, IndexError, TypeError, ValueError):
        raise ArrieroError(f"--set '{text}': there is no such setting among the corpus's filters") from None
