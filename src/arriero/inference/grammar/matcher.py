"""Where an answer is in its grammar: what may come next, and back again."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.inference.grammar.spec import GrammarError
from arriero.inference.grammar.vocabulary import GrammarVocabulary

NO_TEXT = "no text obeys it"


class Matcher:
    """One answer's place in a grammar. Not for use from two threads at a time.

    A matcher takes tokens with :meth:`accept` and takes them back with :meth:`rollback`; :meth:`mask` forbids
    what must not come next. Where a limit of the library ends the matching, or no token fits, :attr:`error`
    says so and nothing is allowed any more.
    """

    def __init__(self, inner: Any, vocabulary: GrammarVocabulary) -> None:
        """``inner``: a matcher of the library's of its own, at the start."""
        self._inner = inner
        self._vocabulary = vocabulary
        self._bits: NDArray[np.int32] = np.zeros(vocabulary.words, dtype=np.int32)
        self._allowed: NDArray[np.bool_] | None = None
        self._taken: list[int] = []  # for each accepted token, how many the library took for it
        self._ended = False

    @property
    def accepted(self) -> int:
        """Number of tokens accepted so far."""
        return len(self._taken)

    @property
    def complete(self) -> bool:
        """Whether the answer obeys the grammar as it is: it may end here."""
        return self._ended or bool(self._inner.is_accepting())

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and no text can follow."""
        return self._ended or (self.complete and not self._text_allowed().any())

    @property
    def overwhelmed(self) -> bool:
        """Whether a limit of the library has ended the matching."""
        self._text_allowed()
        return bool(self._inner.is_error())

    @property
    def error(self) -> str | None:
        """Why the answer can neither go on nor end; None while it can."""
        if self._ended or (not self._inner.is_error() and self.allowed().any()):
            return None
        if not self._inner.is_error():
            return "no token of the vocabulary goes on from here under the grammar"
        reason = first_line(self._inner.get_error())
        return reason if reason == NO_TEXT else f"the grammar is too complex: {reason}"

    def allowed(self) -> NDArray[np.bool_]:
        """Which ids may come next, bool ``[vocab_size]``: read it, don't write it.

        The end tokens are allowed exactly where the answer is complete, other special tokens never. After an
        end token nothing is.
        """
        allowed = self._text_allowed()
        if not self._ended and self._inner.is_accepting() and not self._inner.is_error():
            allowed[self._vocabulary.ends] = True
        return allowed

    def mask(self, row: NDArray[Any]) -> None:
        """Set the logits ``row [V]`` (floats) of what may not come next to minus infinity, in place.

        A row may be shorter than the vocabulary (a model with fewer rows) or longer (padding, never allowed).
        """
        allowed = self.allowed()
        size = min(len(row), len(allowed))
        np.putmask(row[:size], ~allowed[:size], -np.inf)
        row[size:] = -np.inf

    def accept(self, token: int) -> None:
        """Take the next token.

        Raises:
            GrammarError: it may not come next; the matcher is as it was.
        """
        if not 0 <= token < self._vocabulary.size or not self.allowed()[token]:
            raise GrammarError(f"token {token} does not obey the grammar after {self.accepted} tokens")
        self._allowed = None
        if token in self._vocabulary.ends:
            self._ended = True
            self._taken.append(0)
            return
        inner = self._vocabulary.first(token) if not self._taken else token
        if inner is not None:
            self._inner.consume_token(inner)
        self._taken.append(int(inner is not None))

    def fits(self, tokens: list[int]) -> int:
        """How many of the tokens, in a row, may come next; the matcher stays as it is."""
        before = self.accepted
        try:
            for token in tokens:
                self.accept(token)
        except GrammarError:
            pass
        count = self.accepted - before
        self.rollback(count)
        return count

    def rollback(self, count: int) -> None:
        """Take back the last ``count`` tokens, as if they had never been accepted.

        Raises:
            GrammarError: there are not so many.
        """
        if not 0 <= count <= self.accepted:
            raise GrammarError(f"{count} tokens cannot be taken back of the {self.accepted} accepted")
        if count == 0:
            return
        taken = sum(self._taken[-count:])
        del self._taken[-count:]
        self._allowed, self._ended = None, False
        if taken:
            self._inner.rollback(taken)

    def forced(self) -> list[int]:
        """Tokens of the bytes that alone can follow, as the tokenizer cuts them; often none.

        They are good guesses for speculation, not a certainty: other tokens may spell the same bytes, and the
        last one may be longer than what is forced, so it is left out.
        """
        if self._ended or self._inner.is_error():
            return []
        text = bytes(self._inner.compute_ff_bytes()).decode("utf-8", "ignore")
        ids = self._vocabulary.tokenizer.encode_continuation(text)[:-1] if text else []
        return ids[: self.fits(ids)]

    def _text_allowed(self) -> NDArray[np.bool_]:
        if self._allowed is None:
            if self._ended or self._inner.is_error():
                self._allowed = np.zeros(self._vocabulary.size, dtype=bool)
            else:
                self._inner.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
                bits = np.zeros_like(self._bits) if self._inner.is_error() else self._bits
                self._allowed = self._vocabulary.allowed(bits, start=not self._taken)
        return self._allowed.copy()


def first_line(error: str) -> str:
    """The library's message on one line: what is wrong, without its drawing of the place."""
    lines = [line.strip() for line in error.strip().splitlines()]
    said = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), None)
    if not lines:
        return "no reason given"
    if lines[0].startswith("NoExtension"):
        return NO_TEXT
    first = re.split("; (?:consider|try) ", lines[0])[0]  # advice for authors of grammars
    return f"{first.rstrip(':')}: {said}" if said else first
