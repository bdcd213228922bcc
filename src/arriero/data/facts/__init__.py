"""Facts about a text: counted once, judged later.

Columns of the ledger are :data:`FACTS`; :func:`measure` counts them, with the MinHash signature and the digest, in
compiled code where it was built and in Python where it was not: the results are equal.
"""

from arriero.data.facts.columns import FACTS, NAMES, FactColumn
from arriero.data.facts.line_table import Lines, lines, paragraphs
from arriero.data.facts.measuring import TextFacts, measure, normalised_text, shingle_hashes, signature, words
from arriero.data.facts.settings import STOP_WORDS, FactsSettings
from arriero.data.facts.signatures import band_keys, candidate_probability, jaccard

__all__ = [
    "FACTS", "NAMES", "STOP_WORDS", "FactColumn", "FactsSettings", "Lines", "TextFacts", "band_keys",
    "candidate_probability", "jaccard", "lines", "measure", "normalised_text", "paragraphs", "shingle_hashes",
    "signature", "words",
]  # fmt: skip
