"""Perplexity of a text under an n-gram model, as CCNet (Wenzek et al. 2020) uses it: head, middle and tail.

Perplexity is 10 ^ (-log10 p / (pieces + 1)), the one being the end of the text (KenLM: of every line). A sample of whole
lines is scored, because cutting the text into pieces costs more than everything else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arriero.data.filters.base import Doc, Verdict, at_stored_precision, is_near, numbers_of
from arriero.data.filters.settings import Perplexity
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    import pyarrow as pa

    from arriero.tokenization.tokenizer import Tokenizer

COLUMN = "m_perplexity"
_DIGIT = re.compile(r"\d")
_PUNCTUATION = {
    "，": ",", "。": ".", "、": ",", "„": '"', "”": '"', "“": '"', "«": '"', "»": '"', "１": '"', "」": '"',
    "「": '"', "《": '"', "》": '"', "´": "'", "∶": ":", "：": ":", "？": "?", "！": "!", "（": "(", "）": ")",
    "；": ";", "–": "-", "—": " - ", "．": ". ", "～": "~", "’": "'", "…": "...", "━": "-", "〈": "<", "〉": ">",
    "【": "[", "】": "]", "％": "%", "►": "-",
}  # fmt: skip
"""cc_net's text_normalizer.py, the odd ``１`` included."""
_TO_ASCII = str.maketrans(_PUNCTUATION)


class Model(Protocol):
    """Scores texts."""

    def score(self, text: str) -> tuple[float, int]:
        """log10 p of the text with its end, and the pieces that were scored, ends included."""


class PerplexityFilter:
    """Measures ``m_perplexity``; drops what is not in the wanted thirds."""

    stage = "perplexity"
    needs: Literal["record", "text"] = "text"
    reasons = ("perplexity.min", "perplexity.max")

    def __init__(self, settings: Perplexity) -> None:
        self._settings = settings
        thirds = set(settings.keep)
        self._most = (
            math.inf if "tail" in thirds else settings.middle if "middle" in thirds else settings.head
        )
        self._least = settings.min or 0.0

    @cached_property
    def _model(self) -> Model:
        return load_model(self._settings)

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        """Nothing for a blank text."""
        settings = self._settings
        sample = sample_of(doc.text, settings.sample_bytes)
        if not sample.strip():
            return {}
        if settings.normalise:
            sample = _DIGIT.sub("0", sample.lower().translate(_TO_ASCII))
        log, pieces = self._model.score(sample)
        return {COLUMN: at_stored_precision(min(10 ** min(-log / pieces, 300.0), 3e38))}

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        value = columns.get(COLUMN)
        if value is None:
            return None
        if value < self._least:
            return Verdict(self.reasons[0], value, self._least, is_near(value, self._least))
        if value >= self._most:
            return Verdict(self.reasons[1], value, self._most, is_near(value, self._most))
        return None

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        value = numbers_of(table, COLUMN)
        return np.where(value < self._least, 0, np.where(value >= self._most, 1, -1))


def cutoffs(perplexities: ArrayLike, shares: Sequence[float] = (0.3, 0.6)) -> list[float]:
    """Perplexities below which these shares of the documents lie, NaNs left out: CCNet's head and middle by the 30th and
    60th percentile of a language.

    Raises:
        ArrieroError: nothing was measured.
    """
    values = np.asarray(perplexities, np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        raise ArrieroError("no perplexity was measured, so there is nothing to cut")
    return [float(value) for value in np.quantile(values, shares)]


def sample_of(text: str, size: int) -> str:
    """About ``size`` bytes of a text: whole lines from three places; 0: all of it. A longer line is cut at a space."""
    if not size or len(text) <= size // 4:  # no character has more than four bytes
        return text
    share = len(text.encode("utf-8", "replace")) / len(text)
    characters = int(size / share)
    if len(text) <= characters:
        return text
    each = max(characters // 3, 1)
    places = (0, (len(text) - each) // 2, len(text) - each)
    return "\n".join(_whole_lines(text, place, place + each) for place in places)


def _whole_lines(text: str, start: int, end: int) -> str:
    """The lines between two places that are whole there; where there are none, the words."""
    piece = text[start:end]
    for cut in ("\n", " "):
        first = 0 if not start or text[start - 1] == cut else piece.find(cut) + 1
        last = len(piece) if end >= len(text) or text[end] == cut else piece.rfind(cut)
        if (first or not start or text[start - 1] == cut) and last - first > len(piece) // 2:
            return piece[first:last]
    return piece


# ---------------------------------------------------------------------------------------- models


class OwnNGram:
    """A model fitted here, over its tokenizer's ids: a text stands between BOS and EOS, as in its training."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        from arriero.models.ngram import NGram

        self._model, self._tokenizer = NGram.load(folder), tokenizer
        if self._model.vocab_size < tokenizer.vocab_size:
            raise ArrieroError(
                f"{folder}: the model has {self._model.vocab_size} tokens and its tokenizer {tokenizer.vocab_size}"
            )

    def score(self, text: str) -> tuple[float, int]:
        logs = self._model.token_logprobs([self._tokenizer.encode(text, bos=True, eos=True)])[0]
        return float(logs.sum()) / math.log(10), logs.size


class KenLM:
    """A KenLM model (Heafield 2011); each line is a sentence, cut by a tokenizer's pieces or at white space."""

    def __init__(self, path: Path, tokenizer: Tokenizer | None) -> None:
        try:
            import kenlm
        except ImportError:
            raise ArrieroError(
                f"{path} is a KenLM model, which needs the package kenlm: pip install kenlm"
            ) from None
        try:
            self._model = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise ArrieroError(f"{path} is no KenLM model: {str(error).splitlines()[0]}") from None
        self._tokenizer = tokenizer

    def score(self, text: str) -> tuple[float, int]:
        lines = [line for line in text.split("\n") if line.strip()]
        if self._tokenizer is not None:
            cut = self._tokenizer.encode_pieces_apart(lines)
            lines = [" ".join(encoding.tokens) for encoding in cut]
        log = sum(self._model.score(line, bos=True, eos=True) for line in lines)
        return log, sum(len(line.split()) + 1 for line in lines)


def load_model(settings: Perplexity) -> Model:
    """The model of the settings.

    Raises:
        ArrieroError: a file is missing or is of no known kind.
    """
    path = Path(settings.model)
    if not path.is_file():
        raise ArrieroError(f"there is no n-gram model {path}")
    if path.suffix == ".safetensors":
        from arriero.tokenization.load import load_tokenizer

        return OwnNGram(path.parent, load_tokenizer(settings.tokenizer or path.parent))
    if settings.tokenizer is None:
        return KenLM(path, None)
    from arriero.tokenization.load import load_tokenizer

    return KenLM(path, load_tokenizer(settings.tokenizer))
