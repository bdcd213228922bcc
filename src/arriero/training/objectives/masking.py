"""Which tokens of a row are hidden, and what stands in their place.

15 % of the tokens are chosen; of these 80 % become the mask token, 10 % a random one, 10 % stay as they are
(Devlin et al., arXiv 1810.04805, section 3.1). Whole words: the pieces of a word are chosen together. Spans: up to N
tokens (or words) in a row, n of them with a probability in proportion to 1/n (Lan et al., arXiv 1909.11942, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arriero.training.objectives.draws import Draws

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

MASKED, RANDOM = 0.8, 0.1
"""Of the chosen tokens; the rest stay."""


@dataclass(frozen=True)
class Masking:
    """How rows are masked.

    Attributes:
        mask_id: stands for a hidden token.
        ordinary: int64 [n], the ids that may stand in a chosen token's place: all but special ones.
        special: bool [V]: never chosen.
        starts: bool [V]: begins a word. None: words are not looked at.
        share: of the tokens that are chosen; a row with any token that can be has at least one.
        ngrams: most tokens (words, with ``starts``) of a span.
    """

    mask_id: int
    ordinary: np.ndarray
    special: np.ndarray
    starts: np.ndarray | None = None
    share: float = 0.15
    ngrams: int = 1

    def apply(self, ids: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """(ids with some replaced int64 [T], places int64 [S] of the chosen tokens in rising order) of a row [T]."""
        places = np.sort(self._choose(ids, draws))
        kind = draws.uniform(len(places))
        drawn = self.ordinary[(draws.uniform(len(places)) * len(self.ordinary)).astype(np.int64)]
        hidden = ids.astype(np.int64, copy=True)
        stays = np.where(kind < MASKED + RANDOM, drawn, ids[places])
        hidden[places] = np.where(kind < MASKED, self.mask_id, stays)
        return hidden, places

    def _choose(self, ids: np.ndarray, draws: Draws) -> np.ndarray:
        places = np.flatnonzero(~self.special[ids])
        if not len(places):
            return places
        # a share of 15 % is no whole number of tokens: rounded up as often as makes the mean right
        wanted = max(1, int(self.share * len(places) + draws.uniform(1)[0]))
        if self.starts is None and self.ngrams == 1:
            return places[draws.order(len(places))[:wanted]]
        return self._spans(ids, places, wanted, draws)

    def _spans(self, ids: np.ndarray, places: np.ndarray, wanted: int, draws: Draws) -> np.ndarray:
        """Whole words, and spans of them, until ``wanted`` tokens are chosen; what would be too much is passed over."""
        after_gap = np.diff(places, prepend=-2) > 1  # a special token lies between
        begins = after_gap if self.starts is None else after_gap | self.starts[ids[places]]
        first = np.flatnonzero(begins if self.starts is not None else np.ones(len(places), dtype=bool))
        borders = np.append(first, len(places))
        units = len(first)
        odds = np.cumsum(1 / np.arange(1, self.ngrams + 1))
        lengths = 1 + np.searchsorted(odds / odds[-1], draws.uniform(units), side="right")
        chosen = np.zeros(len(places), dtype=bool)
        left = wanted
        for unit in draws.order(units).tolist():
            if not left:
                break
            last = min(units, unit + int(lengths[unit]))
            while last > unit and borders[last] - borders[unit] > left:
                last -= 1
            span = slice(borders[unit], borders[last])
            if last == unit or chosen[span].any() or after_gap[borders[unit] + 1 : borders[last]].any():
                continue
            chosen[span] = True
            left -= borders[last] - borders[unit]
        return places[chosen]


def word_starts(tokenizer: Tokenizer) -> np.ndarray:
    """bool [V]: which pieces begin a word.

    WordPiece: those without the mark of continuation (##). SentencePiece and byte-level BPE: those whose text begins
    with white space (written ▁ or Ġ). Where the end of a word is marked (GPT-1) no piece tells its beginning.

    Raises:
        ArrieroError: the tokenizer marks the ends of words and not their beginnings.
    """
    from arriero.errors import ArrieroError

    pieces = tokenizer.pieces
    if pieces.kind == "suffix":
        raise ArrieroError(
            "whole_word: this tokenizer marks where words end, not where they begin; set whole_word to false"
        )
    texts = [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)]
    if pieces.kind == "wordpiece":  # its full stops and the like are joined to the word before, but are words
        names = tokenizer.definition["model"]["vocab"]
        starts = np.ones(tokenizer.vocab_size, dtype=bool)
        starts[[id for name, id in names.items() if name.startswith(pieces.prefix)]] = False
        return starts
    return np.array([text[:1].isspace() for text in texts], dtype=bool)
