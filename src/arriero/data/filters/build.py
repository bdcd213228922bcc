"""From settings to filters and editors, in the order in which a document meets them: the cheap ones first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.paths import InputPath
from arriero.data.code.headers import LicenseHeaderEditor
from arriero.data.filters.base import Editor, Filter, Verdict
from arriero.data.filters.classifier import ClassifierFilter
from arriero.data.filters.hash_list import build_url_list
from arriero.data.filters.language import LanguageFilter, read_languages
from arriero.data.filters.license import LicenseFilter
from arriero.data.filters.line_rules import LineEditor, line_settings
from arriero.data.filters.lists import UrlListFilter, WordListFilter
from arriero.data.filters.optout import OptOutFilter
from arriero.data.filters.perplexity import COLUMN as PERPLEXITY
from arriero.data.filters.perplexity import PerplexityFilter
from arriero.data.filters.presets import WORDS_CUT, Rule, rules_of
from arriero.data.filters.rule_filter import RuleFilter
from arriero.data.filters.settings import FilterSettings
from arriero.data.filters.toxicity import COLUMN as TOXICITY
from arriero.data.filters.toxicity import ToxicityFilter

if TYPE_CHECKING:
    import pyarrow as pa

_LARGE_LIST = 1 << 20
"""Lists of addresses from this size in bytes on are hashed once, before the workers start."""


def build_filters(settings: FilterSettings) -> list[Filter]:
    """The filters of the settings. Lists and classifiers are read here, larger models with the first text.

    Raises:
        ArrieroError: a file that the settings name cannot be read.
    """
    found: list[Filter] = []
    if settings.url_lists:
        found.append(UrlListFilter(settings.url_lists))
    if any((settings.optout.domains, settings.optout.urls, settings.optout.robots, settings.optout.ids)):
        found.append(OptOutFilter(settings.optout))
    if settings.license:
        found.append(LicenseFilter(settings.license))
    if settings.language:
        found.append(LanguageFilter(settings.language))
    found.append(_rule_filter(settings))
    found += [WordListFilter(each) for each in settings.word_lists]
    if settings.toxicity:
        found.append(ToxicityFilter(settings.toxicity))
    found += [ClassifierFilter(each) for each in settings.classifiers]
    if settings.perplexity:
        found.append(PerplexityFilter(settings.perplexity))
    return found


def _rule_filter(settings: FilterSettings) -> RuleFilter:
    languages = read_languages(settings.language, settings.rules)
    by_language = {lang: rules for lang, (_, rules) in languages.items() if rules is not None}
    return RuleFilter(settings.rules, by_language)


def _every_rules(settings: FilterSettings) -> list[tuple[Rule, ...]]:
    """Those for all documents, and those of single languages."""
    own = [rules for _, rules in read_languages(settings.language, settings.rules).values() if rules]
    return [rules_of(rules) for rules in [settings.rules, *own]]


def build_editors(settings: FilterSettings) -> list[Editor]:
    """The editors of the settings: the line rules, where there are any, and what cuts licence headers off code."""
    editors: list[Editor] = [LineEditor(settings.line_rules)] if line_settings(settings.line_rules) else []
    if settings.code_headers != "none":
        editors.append(LicenseHeaderEditor(settings.code_headers))
    return editors


def measure_names(settings: FilterSettings) -> list[str]:
    """The ``m_`` columns that the filters of the settings add to a ledger, in their order."""
    every = [rule for rules in _every_rules(settings) for rule in rules]
    names = [WORDS_CUT] if any(WORDS_CUT in rule.columns for rule in every) else []
    names += [f"m_words_{each.name}" for each in settings.word_lists]
    names += [TOXICITY] if settings.toxicity else []
    names += [f"m_quality_{each.name}" for each in settings.classifiers]
    return names + ([PERPLEXITY] if settings.perplexity else [])


def prepare_lists(settings: FilterSettings, folder: Path) -> FilterSettings:
    """The settings with their large lists of addresses as ``.npy`` in ``folder``, which all workers map: a list of
    millions of domains then costs a worker neither time nor memory.

    Raises:
        ArrieroError: a list cannot be read.
    """
    ready = []
    for each in settings.url_lists:
        if each.path.suffix != ".npy" and each.path.is_file() and each.path.stat().st_size >= _LARGE_LIST:
            folder.mkdir(parents=True, exist_ok=True)
            out = folder / f"{each.name}.npy"
            build_url_list([each.path], out)
            each = each.model_copy(update={"path": InputPath(out)})
        ready.append(each)
    return settings.model_copy(update={"url_lists": ready})


class TableVerdict(NamedTuple):
    """What the filters say of every row of a ledger. ``filter``: position among the filters, -1 where a row passes;
    ``reason``: position in that filter's reasons."""

    filter: NDArray[np.int64]
    reason: NDArray[np.int64]


def judge_document(filters: list[Filter], columns: Mapping[str, Any]) -> tuple[str, Verdict] | None:
    """Stage and verdict of the first filter that drops a document by what was measured; None: all keep it."""
    for each in filters:
        verdict = each.judge(columns)
        if verdict is not None:
            return each.stage, verdict
    return None


def judge_table(filters: list[Filter], table: pa.Table) -> TableVerdict:
    """The same decision for all rows of a ledger at once."""
    by = np.full(table.num_rows, -1, np.int64)
    reason = np.full(table.num_rows, -1, np.int64)
    for number, each in enumerate(filters):
        found = each.judge_table(table)
        new = (found >= 0) & (by < 0)
        by[new], reason[new] = number, found[new]
    return TableVerdict(by, reason)
