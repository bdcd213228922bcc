"""The references that no stage made: n-gram models of the training split."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from arriero.cost.device import Rate
from arriero.evaluation.documents import training_documents
from arriero.evaluation.settings import EvaluateSettings
from arriero.models.ngram import NGram

UNIGRAM = "unigram"
FIT_RATE, SCORE_RATE = "evaluate.ngram_tokens_per_s", "evaluate.ngram_scored_per_s"
_PROBE_TOKENS, _PROBE_VOCABULARY, _PROBE_ORDER = 600_000, 4096, 5
_PROBE_DOCUMENT, _PHRASE = 500, 4
BYTES_PER_TOKEN = 36
"""Memory that a training token takes for every order above the first; measured on English text (1.4 million tokens)."""


def reference_orders(settings: EvaluateSettings) -> dict[str, int]:
    """name -> order of the references that the settings ask for."""
    found = {f"{settings.ngram_order}-gram": settings.ngram_order} if settings.ngram else {}
    return found | ({UNIGRAM: 1} if settings.unigram else {})


def fit_reference(tokens: Path, order: int, vocab_size: int, most_tokens: int) -> NGram:
    """A model of the training split's first ``most_tokens`` tokens (0 = all)."""
    return NGram.fit(training_documents(tokens, most_tokens), order, vocab_size)


def fitting_work(order: int, tokens: int) -> float:
    """Tokens that the probe would fit in the same time: it counts orders up to 5, and time goes with their number."""
    return tokens * order / _PROBE_ORDER


def measure_ngram() -> dict[str, Rate]:
    """Tokens per second of fitting and of scoring, on made-up text with a language's frequencies and repeats."""
    rng = np.random.default_rng(0)
    frequencies = 1.0 / (np.arange(_PROBE_VOCABULARY) + 10.0)  # Zipf's law as Mandelbrot put it
    ids = rng.choice(_PROBE_VOCABULARY, _PROBE_TOKENS, p=frequencies / frequencies.sum())
    phrases = ids.reshape(-1, _PHRASE)
    phrases[1::2] = phrases[rng.integers(0, len(phrases), len(phrases[1::2]))]
    documents = np.split(ids, range(_PROBE_DOCUMENT, _PROBE_TOKENS, _PROBE_DOCUMENT))
    NGram.fit(documents[:50], _PROBE_ORDER, _PROBE_VOCABULARY)
    start = time.perf_counter()
    model = NGram.fit(documents, _PROBE_ORDER, _PROBE_VOCABULARY)
    fitted = time.perf_counter()
    texts = [document.tolist() for document in documents[: len(documents) // 4]]
    model.token_logprobs(texts)
    scored = time.perf_counter()
    return {
        FIT_RATE: Rate(per_s=_PROBE_TOKENS / (fitted - start), spread=0.4, unit="tokens"),
        SCORE_RATE: Rate(per_s=sum(map(len, texts)) / (scored - fitted), spread=0.4, unit="tokens"),
    }
