"""From counters to facts: the only place where one is divided by the other, for the kernel and for Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

from arriero.data.facts.columns import NAMES

COUNTERS = (
    "bytes", "characters", "words", "plain_words", "plain_word_characters", "tokens", "token_characters",
    "longest_token", "lines", "filled_lines", "paragraphs", "sentences", "median_word_length", "alphabetic_words",
    "upper_tokens", "unspaced_words", "unique_words", "entropy", "stop_words_distinct", "stop_words_total",
    "encoded_tokens", "letters", "upper", "digits", "alphanumeric", "punctuation", "symbols", "whitespace",
    "parentheses", "non_ascii", "control_characters", "longest_run", "hashes", "ellipses", "curly_brackets",
    "lorem_ipsum", "urls", "url_characters", "xml_header", "bullet_lines", "ellipsis_lines", "terminal_lines",
    "short_lines", "newlines", "long_lines", "longest_line", "upper_lines", "numeric_lines", "one_word_lines",
    "javascript_lines", "policy_lines", "c4_lines", "c4_sentences", "c4_curly_lines", "c4_lorem_lines",
    "c4_open_lines", "c4_open_sentences", "c4_open_curly_lines", "c4_open_lorem_lines", "pieces",
    "duplicate_lines", "duplicate_line_characters", "duplicate_paragraphs", "duplicate_paragraph_characters",
    "repeated_line_characters", "top_2gram", "top_3gram", "top_4gram", "duplicate_5grams", "duplicate_6grams",
    "duplicate_7grams", "duplicate_8grams", "duplicate_9grams", "duplicate_10grams",
)  # fmt: skip
"""What is counted, as whole numbers, in the order of ``AR_TEXT_COUNTERS``. ``entropy`` is words x entropy in bits, in
units of 2^-20; ``pieces`` are the lines of Gopher's repetition; ``top_*`` and ``duplicate_*`` are characters."""
_BIT = math.log(2)
_RATIOS = {
    "mean_word_length": ("plain_word_characters", "plain_words"),
    "mean_token_length": ("token_characters", "tokens"),
    "upper_words": ("upper_tokens", "tokens"),
    **{name: (name, "words") for name in ("alphabetic_words", "unspaced_words")},
    "unique_words": ("unique_words", "words"),
    "letters_per_word": ("letters", "words"),
    "letters_per_token": ("letters", "encoded_tokens"),
    "letter_share": ("letters", "characters"),
    "upper_share": ("upper", "characters"),
    "digit_share": ("digits", "characters"),
    "alphanumeric_share": ("alphanumeric", "characters"),
    "punctuation_share": ("punctuation", "characters"),
    "symbol_share": ("symbols", "characters"),
    "whitespace_share": ("whitespace", "characters"),
    "parentheses_share": ("parentheses", "characters"),
    "non_ascii_share": ("non_ascii", "characters"),
    "hash_ratio": ("hashes", "words"),
    "ellipsis_ratio": ("ellipses", "words"),
    "url_share": ("url_characters", "characters"),
    **{name: (name, "lines") for name in ("bullet_lines", "ellipsis_lines")},
    "terminal_punctuation_lines": ("terminal_lines", "filled_lines"),
    **{name: (name, "filled_lines") for name in ("short_lines", "upper_lines", "numeric_lines", "one_word_lines")},
    "newlines_per_word": ("newlines", "words"),
    "duplicate_lines": ("duplicate_lines", "pieces"),
    "duplicate_paragraphs": ("duplicate_paragraphs", "paragraphs"),
    **{
        name: (name, "characters")
        for name in (
            "duplicate_line_characters", "duplicate_paragraph_characters", *(f"top_{n}gram" for n in (2, 3, 4)),
            *(f"duplicate_{n}grams" for n in range(5, 11)),
        )
    },
}  # fmt: skip
_PLACES = {name: place for place, name in enumerate(COUNTERS)}


def _step(name: str) -> tuple[str, int, int]:
    """A fact's name, the place of the counter that it is, or is made of, and of the one that divides it (-1: none)."""
    above, below = _RATIOS.get(name, (name, ""))
    return name, _PLACES.get(above, -1), _PLACES.get(below, -1)


_PLAN = tuple(map(_step, NAMES))


def figures(counters: Sequence[int]) -> dict[str, float | int]:
    """The facts by name, in the order of ``FACTS``, of counters in the order of :data:`COUNTERS`."""
    facts: dict[str, float | int] = {}
    for name, above, below in _PLAN:
        if below < 0:
            facts[name] = counters[above]
        else:
            facts[name] = counters[above] / counters[below] if counters[below] else 0.0
    words, characters, newlines = (counters[_PLACES[name]] for name in ("words", "characters", "newlines"))
    facts["word_entropy"] = counters[_PLACES["entropy"]] / (words << 20) * _BIT if words else 0.0
    facts["mean_line"] = (characters - newlines) / (newlines + 1)
    solid = characters - newlines
    facts["repeated_line_characters"] = facts["repeated_line_characters"] / solid if solid else 0.0
    return facts
