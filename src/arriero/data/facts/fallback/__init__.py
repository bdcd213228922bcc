"""The facts without compiled code: in Python and numpy, slower, with the same results to the last bit.

Read it as the kernel's specification: what ``csrc/text_*.c`` does is said here more plainly.
"""

from arriero.data.facts.fallback.line_rules import lines
from arriero.data.facts.fallback.normal import normalise, shingles, signature
from arriero.data.facts.fallback.text import measure, word_bounds

__all__ = ["lines", "measure", "normalise", "shingles", "signature", "word_bounds"]
