"""The rules of curation: pure functions from facts to a decision, cheap ones first.

The defaults are Gopher's (Rae et al. 2021, tables A1 and A2), with words cut at white space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from arriero.data.facts import Facts


def _share(default: float | None, description: str) -> float | None:
    field: float | None = Field(default=default, ge=0, le=1, description=description)
    return field


class Rules(BaseModel):
    """Thresholds; null switches a rule off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_characters: int | None = Field(default=1, ge=1, description="fewest characters of a document")
    max_characters: int | None = Field(default=None, ge=1, description="most characters of a document")
    min_words: int | None = Field(default=50, ge=1, description="fewest words of a document")
    max_words: int | None = Field(default=100_000, ge=1, description="most words of a document")
    min_mean_word_length: float | None = Field(
        default=3.0, ge=0, description="least mean length of a word, in characters"
    )
    max_mean_word_length: float | None = Field(
        default=10.0, ge=0, description="greatest mean length of a word, in characters"
    )
    min_alphabetic_share: float | None = _share(0.8, "least share of words that hold a letter")
    max_symbol_ratio: float | None = Field(default=0.1, ge=0, description="most # or ellipses a word")
    max_duplicate_lines: float | None = _share(
        0.30, "most lines that stood in the document before, as a share"
    )
    max_duplicate_paragraphs: float | None = _share(
        0.30, "most paragraphs that stood in it before, as a share"
    )
    max_duplicate_line_characters: float | None = _share(0.20, "most characters in such lines, as a share")
    max_duplicate_paragraph_characters: float | None = _share(
        0.20, "most characters in such paragraphs, as a share"
    )
    max_top_2gram: float | None = _share(
        0.20, "most characters in the most frequent 2-gram of words, as a share"
    )
    max_top_3gram: float | None = _share(
        0.18, "most characters in the most frequent 3-gram of words, as a share"
    )
    max_top_4gram: float | None = _share(
        0.16, "most characters in the most frequent 4-gram of words, as a share"
    )
    max_duplicate_5grams: float | None = _share(
        0.15, "most characters in 5-grams that stood in it before, as a share"
    )
    max_duplicate_6grams: float | None = _share(
        0.14, "most characters in 6-grams that stood in it before, as a share"
    )
    max_duplicate_7grams: float | None = _share(
        0.13, "most characters in 7-grams that stood in it before, as a share"
    )
    max_duplicate_8grams: float | None = _share(
        0.12, "most characters in 8-grams that stood in it before, as a share"
    )
    max_duplicate_9grams: float | None = _share(
        0.11, "most characters in 9-grams that stood in it before, as a share"
    )
    max_duplicate_10grams: float | None = _share(
        0.10, "most characters in 10-grams that stood in it before, as a share"
    )


@dataclass(frozen=True)
class Verdict:
    """Why a document is dropped: the rule's name, the document's figure, and the threshold that it broke."""

    reason: str
    value: float
    threshold: float


@dataclass(frozen=True)
class _Rule:
    name: str
    """Of the setting."""
    side: Literal["min", "max"]
    fact: Callable[[Facts], float]


def _top_ngram(n: int) -> _Rule:
    return _Rule(f"max_top_{n}gram", "max", lambda facts: facts.top_ngram(n))


def _duplicate_ngrams(n: int) -> _Rule:
    return _Rule(f"max_duplicate_{n}grams", "max", lambda facts: facts.duplicate_ngrams(n))


_RULES = (
    _Rule("min_characters", "min", lambda facts: facts.characters),
    _Rule("max_characters", "max", lambda facts: facts.characters),
    _Rule("min_words", "min", lambda facts: facts.words),
    _Rule("max_words", "max", lambda facts: facts.words),
    _Rule("min_mean_word_length", "min", lambda facts: facts.mean_word_length),
    _Rule("max_mean_word_length", "max", lambda facts: facts.mean_word_length),
    _Rule("min_alphabetic_share", "min", lambda facts: facts.alphabetic_share),
    _Rule("max_symbol_ratio", "max", lambda facts: facts.symbol_ratio),
    _Rule("max_duplicate_lines", "max", lambda facts: facts.duplicate_lines),
    _Rule("max_duplicate_paragraphs", "max", lambda facts: facts.duplicate_paragraphs),
    _Rule("max_duplicate_line_characters", "max", lambda facts: facts.duplicate_line_characters),
    _Rule("max_duplicate_paragraph_characters", "max", lambda facts: facts.duplicate_paragraph_characters),
    *map(_top_ngram, (2, 3, 4)),
    *map(_duplicate_ngrams, range(5, 11)),
)


def judge(facts: Facts, rules: Rules) -> Verdict | None:
    """The first rule that a document breaks, or None when it keeps them all."""
    for rule in _RULES:
        threshold = getattr(rules, rule.name)
        if threshold is None:
            continue
        value = rule.fact(facts)
        if value < threshold if rule.side == "min" else value > threshold:
            return Verdict(rule.name, value, threshold)
    return None
