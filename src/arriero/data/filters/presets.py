"""The rules of published filters with their thresholds, and what each threshold's field is compared with.

Sources: C4, Raffel et al. 2020 and tensorflow/datasets' ``c4_utils.py``; Gopher, Rae et al. 2021, A.1.1 and table A1;
FineWeb, Penedo et al. 2024; CCNet, Wenzek et al. 2020; RefinedWeb, Penedo et al. 2023, as DCLM restates it; the GitHub
part of RedPajama v1. Where papers leave something open, datatrove 0.10's reading is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from arriero.data.filters.rules import Rules

WORDS_CUT = "m_words_cut"


@dataclass(frozen=True)
class Rule:
    """One comparison. With two columns the greater one of a document counts."""

    preset: str
    name: str
    """Of the setting."""
    columns: tuple[str, ...]
    threshold: float = 0.0

    @property
    def side(self) -> Literal["min", "max"]:
        return "min" if self.name.startswith("min_") else "max"

    @property
    def reason(self) -> str:
        return f"{self.preset}.{self.name}"


_COMPARED = {
    "min_characters": "characters", "max_characters": "characters",
    "min_words": "plain_words", "max_words": "plain_words",
    "min_sentences": "sentences", "min_long_lines": "long_lines",
    "min_lines": "filled_lines", "max_lines": "filled_lines",
    "min_mean_word_length": "mean_word_length", "max_mean_word_length": "mean_word_length",
    "min_alphabetic_share": "alphabetic_words",
    "min_stop_words": "stop_words_distinct", "min_stop_word_count": "stop_words_total",
    "min_unique_words": "unique_words", "min_word_entropy": "word_entropy",
    "max_longest_word": "longest_token", "max_longest_run": "longest_run",
    "max_bullet_lines": "bullet_lines", "max_ellipsis_lines": "ellipsis_lines",
    "max_curly_brackets": "curly_brackets", "max_lorem_ipsum": "lorem_ipsum",
    "max_upper_share": "upper_share", "max_digit_share": "digit_share",
    "max_punctuation_share": "punctuation_share", "max_whitespace_share": "whitespace_share",
    "min_alphanumeric_share": "alphanumeric_share", "min_letters_per_token": "letters_per_token",
    "max_parentheses_share": "parentheses_share", "max_url_share": "url_share",
    "min_terminal_punctuation_lines": "terminal_punctuation_lines", "max_short_lines": "short_lines",
    "max_newlines_per_word": "newlines_per_word",
    "max_line_length": "longest_line", "max_mean_line_length": "mean_line",
    "max_duplicate_lines": "duplicate_lines", "max_duplicate_paragraphs": "duplicate_paragraphs",
    "max_duplicate_line_characters": "duplicate_line_characters",
    "max_duplicate_paragraph_characters": "duplicate_paragraph_characters",
    "max_repeated_line_characters": "repeated_line_characters",
    **{f"max_top_{n}gram": f"top_{n}gram" for n in (2, 3, 4)},
    **{f"max_duplicate_{n}grams": f"duplicate_{n}grams" for n in range(5, 11)},
}  # fmt: skip
COMPARED: dict[str, tuple[str, ...]] = {
    **{name: (f"f_{fact}",) for name, fact in _COMPARED.items()},
    "max_symbol_ratio": ("f_hash_ratio", "f_ellipsis_ratio"),
    "max_words_cut": (WORDS_CUT,),
}
"""Setting -> columns of the ledger that it is compared with."""

_C4 = {"min_sentences": 5.0, "max_curly_brackets": 0.0, "max_lorem_ipsum": 0.0}
_QUALITY = {
    "min_words": 50.0, "max_words": 100_000.0, "min_mean_word_length": 3.0, "max_mean_word_length": 10.0,
    "max_symbol_ratio": 0.1, "max_bullet_lines": 0.9, "max_ellipsis_lines": 0.3, "min_alphabetic_share": 0.8,
}  # fmt: skip
_REPETITION = {
    "max_duplicate_paragraphs": 0.30, "max_duplicate_paragraph_characters": 0.20,
    "max_duplicate_lines": 0.30, "max_duplicate_line_characters": 0.20,
    "max_top_2gram": 0.20, "max_top_3gram": 0.18, "max_top_4gram": 0.16,
    "max_duplicate_5grams": 0.15, "max_duplicate_6grams": 0.14, "max_duplicate_7grams": 0.13,
    "max_duplicate_8grams": 0.12, "max_duplicate_9grams": 0.11, "max_duplicate_10grams": 0.10,
}  # fmt: skip
_FINEWEB = {
    "min_terminal_punctuation_lines": 0.12, "max_short_lines": 0.67, "max_repeated_line_characters": 0.01,
    "max_newlines_per_word": 0.3,
}  # fmt: skip
_REDPAJAMA_CODE = {
    "max_line_length": 1000.0, "max_mean_line_length": 100.0, "min_alphanumeric_share": 0.25,
    "min_letters_per_token": 1.5,
}  # fmt: skip

_C4_COLUMNS = {
    "min_sentences": "sentences",
    "max_curly_brackets": "curly_lines",
    "max_lorem_ipsum": "lorem_lines",
}


def _rules(preset: str, thresholds: dict[str, float]) -> tuple[Rule, ...]:
    return tuple(Rule(preset, name, COMPARED[name], value) for name, value in thresholds.items())


def _c4(preset: str, prefix: str) -> tuple[Rule, ...]:
    """C4 looks for brackets and counts sentences only in the lines that its line rules keep."""
    return tuple(
        replace(rule, columns=(f"f_{prefix}_{_C4_COLUMNS[rule.name]}",)) for rule in _rules(preset, _C4)
    )


PRESETS: dict[str, tuple[Rule, ...]] = {
    "none": (),
    "c4": _c4("c4", "c4"),
    "fineweb-c4": _c4("fineweb-c4", "c4_open"),
    "gopher": _rules("gopher", {**_QUALITY, "min_stop_words": 2.0, **_REPETITION}),
    "fineweb": _rules("fineweb", _FINEWEB),
    "ccnet": _rules("ccnet", {"min_characters": 300.0}),
    "refinedweb": _rules(
        "refinedweb", {**_QUALITY, "min_stop_word_count": 2.0, **_REPETITION, "max_words_cut": 0.05}
    ),
    "redpajama-code": _rules("redpajama-code", _REDPAJAMA_CODE),
}
"""Preset -> its rules in the order in which they are tried."""

_ALWAYS = {"min_characters": 1.0}
"""No preset says it: an empty text is no document."""


def rules_of(settings: Rules) -> tuple[Rule, ...]:
    """The rules that settings come to, in the order in which they are tried: what no preset has under the name
    ``rules.<name>``, then the presets'."""
    presets = [rule for preset in settings.presets for rule in PRESETS[preset]]
    named = {rule.name for rule in presets}
    found = []
    for name in COMPARED:
        given = getattr(settings, name)
        value = _ALWAYS.get(name) if given == "preset" else given
        if name not in named and value is not None:
            found.append(Rule("rules", name, COMPARED[name], value))
    for rule in presets:
        given = getattr(settings, rule.name)
        if given is not None:
            found.append(rule if given == "preset" else replace(rule, threshold=float(given)))
    return tuple(found)
