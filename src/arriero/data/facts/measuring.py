"""The facts of a text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts import fallback
from arriero.data.facts.figures import figures
from arriero.data.facts.kernel import kernel, to_bytes
from arriero.data.facts.settings import FactsSettings

_DEFAULT = FactsSettings()


@dataclass(frozen=True)
class TextFacts:
    """``values`` by the names of ``FACTS``, in that order; the MinHash ``signature``, uint32[bands * rows], all ones for
    a text without words; ``digest``, BLAKE2b-128 of the normalised text."""

    values: dict[str, float | int]
    signature: NDArray[np.uint32]
    digest: bytes


def measure(text: str | bytes, settings: FactsSettings = _DEFAULT) -> TextFacts:
    """Everything that is counted about a text; time and memory grow linearly with it."""
    data = to_bytes(text)
    compiled = kernel(settings)
    counted = compiled.measure(data) if compiled else fallback.measure(data, settings)
    counters, signature, digest = counted
    return TextFacts(figures(counters), signature, digest)


def normalised_text(text: str | bytes) -> str:
    """The text as the digest and the shingles see it: lower case, without diacritics, numbers as 0, one space for
    whatever separates words. As datatrove's ``simplify_text``, except that all of Unicode's punctuation separates,
    format characters (soft hyphens, joiners) go, Hangul syllables stay whole, and a final sigma is a sigma."""
    data = to_bytes(text)
    compiled = kernel(_DEFAULT)
    return (compiled.normalise(data) if compiled else fallback.normalise(data)).decode()


def signature(text: str | bytes, settings: FactsSettings = _DEFAULT) -> NDArray[np.uint32]:
    """The MinHash signature alone."""
    data = to_bytes(text)
    compiled = kernel(settings)
    return compiled.signature(data) if compiled else fallback.signature(data, settings)


def shingle_hashes(text: str | bytes, settings: FactsSettings = _DEFAULT) -> NDArray[np.uint64]:
    """uint64[n], sorted, each once: hashes of the runs of ``shingle_words`` words of the normalised text; of fewer words
    they are one shingle, of none there is none. For the true Jaccard similarity of two texts."""
    data = to_bytes(text)
    compiled = kernel(settings)
    return np.unique(compiled.shingles(data) if compiled else fallback.shingles(data, settings))


def words(text: str | bytes, settings: FactsSettings = _DEFAULT) -> list[str]:
    """The words as the facts count them."""
    data = to_bytes(text)
    compiled = kernel(settings)
    bounds = compiled.words(data).tolist() if compiled else fallback.word_bounds(data, settings)
    return [data[start:end].decode() for start, end in bounds]
