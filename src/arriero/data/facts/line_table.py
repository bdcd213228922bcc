"""Lines and paragraphs of a text with what line rules and line-wise deduplication want to know of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts import fallback
from arriero.data.facts.kernel import kernel, to_bytes
from arriero.data.facts.settings import FactsSettings

# fmt: off
END_MARK, ELLIPSIS, TERMINAL, BULLET, CURLY, LOREM, JAVASCRIPT, POLICY, LONG_WORD, C4, C4_OPEN = (
    1 << bit for bit in range(11)
)
# fmt: on
_DEFAULT = FactsSettings()


@dataclass(frozen=True)
class Lines:
    """Arrays with one entry a line; white space at a line's ends counts for ``start``, ``end`` alone.

    ``flags``: END_MARK (ends in . ? ! " or ', not in ...), ELLIPSIS (ends in ... or …), TERMINAL (ends in a sentence's
    end mark of any script), BULLET (begins with • or -), CURLY (has a {), LOREM, JAVASCRIPT, POLICY (has C4's phrases),
    LONG_WORD (has a token of more than 1,000 characters), C4 (C4's line rules keep it), C4_OPEN (they keep it, the rule
    about end marks left out). All as datatrove's C4 filter decides, with marks of citations taken out before.
    """

    start: NDArray[np.int64]
    """Characters."""
    end: NDArray[np.int64]
    """The character after the last; a line feed is not in it."""
    hash: NDArray[np.uint64]
    """Of the line as CCNet compares it: lower case, digits as 0, without punctuation and control characters; 0 where
    nothing is left of it."""
    words: NDArray[np.int32]
    """What lies between white space."""
    longest_word: NDArray[np.int32]
    """Characters."""
    sentences: NDArray[np.int32]
    letters: NDArray[np.int32]
    upper: NDArray[np.int32]
    """Upper-case letters."""
    digits: NDArray[np.int32]
    flags: NDArray[np.uint32]
    c4_sentences: NDArray[np.int32]
    """Sentences with marks of citations taken out."""

    def __len__(self) -> int:
        return len(self.start)


def lines(text: str | bytes) -> Lines:
    """What ``text.split("\\n")`` gives, blank lines too."""
    return _read(text, paragraphs=False)


def paragraphs(text: str | bytes) -> Lines:
    """Stretches between two or more line feeds, as lines; one line feed in them is white space."""
    return _read(text, paragraphs=True)


def _read(text: str | bytes, paragraphs: bool) -> Lines:
    data = to_bytes(text)
    compiled = kernel(_DEFAULT)
    rows = compiled.lines(data, paragraphs) if compiled else fallback.lines(data, paragraphs)
    return Lines(**{name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()})
