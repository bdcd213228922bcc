"""Stop words of the document's own language, counted again where the language is known and is not English.

Facts are counted with Gopher's English words before a language is told. Where it turns out to be another one of the table,
the two figures of stop words are replaced by those of its words, and the ledger holds these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml

from arriero.data.facts import FactsSettings, words
from arriero.data.filters.base import Doc

DISTINCT, TOTAL = "f_stop_words_distinct", "f_stop_words_total"
ENGLISH = "en"


@cache
def stop_words() -> Mapping[str, frozenset[str]]:
    """By ISO 639 code."""
    table = yaml.safe_load(
        files("arriero.data.filters").joinpath("stop_words.yaml").read_text(encoding="utf-8")
    )
    return {str(lang): frozenset(map(str, found)) for lang, found in table.items()}


class StopWords:
    """Counts ``f_stop_words_distinct`` and ``f_stop_words_total`` anew by the column ``lang``."""

    def __init__(self, words: Literal["peel", "space"]) -> None:
        """``words``: what a word is, as the facts count them."""
        self._facts = FactsSettings(words=words)

    def measure(self, doc: Doc) -> dict[str, float | str]:
        """Nothing where the language is not known, is English, or is not in the table."""
        lang = str(doc.columns.get("lang") or "").lower().replace("_", "-").partition("-")[0]
        wanted = stop_words().get(lang) if lang != ENGLISH else None
        if wanted is None:
            return {}
        counts = Counter(word for word in words(doc.text, self._facts) if word in wanted)
        return {DISTINCT: len(counts), TOTAL: counts.total()}
