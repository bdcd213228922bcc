"""Filters of documents: rules, language, perplexity, classifiers, lists, opt-out; and the line rules that edit them.

:func:`build_filters` and :func:`build_editors` make them from :class:`FilterSettings`. A filter first measures, then
judges by the ledger's columns alone, so that thresholds can be changed without reading a text again.
"""

from arriero.data.filters.base import Doc, Editor, Filter, Verdict, merge_edits
from arriero.data.filters.build import (
    TableVerdict,
    build_editors,
    build_filters,
    judge_document,
    judge_table,
    measure_names,
    prepare_lists,
)
from arriero.data.filters.classifier_train import TrainingSettings, train_classifier
from arriero.data.filters.hash_list import build_url_list
from arriero.data.filters.perplexity import cutoffs
from arriero.data.filters.rules import Rules
from arriero.data.filters.settings import FilterSettings

__all__ = [
    "Doc",
    "Editor",
    "Filter",
    "FilterSettings",
    "Rules",
    "TableVerdict",
    "TrainingSettings",
    "Verdict",
    "build_editors",
    "build_filters",
    "build_url_list",
    "cutoffs",
    "judge_document",
    "judge_table",
    "measure_names",
    "merge_edits",
    "prepare_lists",
    "train_classifier",
]
