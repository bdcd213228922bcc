"""The work of the stage ``compare``: every model over the same documents, token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from arriero.artifacts import Artifact
from arriero.evaluation.answers import Floats
from arriero.evaluation.bits_per_byte import default_stride, score_tokens, window_tokens
from arriero.evaluation.cache import Cache
from arriero.evaluation.compare_entrants import Entrant
from arriero.evaluation.comparison import BITS_PER_BYTE
from arriero.evaluation.documents import Documents
from arriero.evaluation.forecast import config_of, row_flops
from arriero.evaluation.progress import Counter, Progress, stop_if_asked
from arriero.evaluation.references import fit_reference
from arriero.models.checkpoint import load_language_model
from arriero.models.protocol import LanguageModel
from arriero.stage import Context

TokenLogs = list[Floats]
"""Natural-log probabilities of the tokens but the first of each document."""


def document_bits(logs: TokenLogs) -> Floats:
    """Bits of each document [n]."""
    return np.asarray([-values.sum() / math.log(2) for values in logs])


class TokenScorer:
    """Scores one model at a time; each result is kept as soon as it is there."""

    def __init__(
        self, tokens: Artifact, documents: Documents, found: Sequence[Entrant], stride: int | None, context: Context
    ) -> None:  # fmt: skip
        self._tokens, self._documents, self._stride, self._context = tokens, documents, stride, context
        self._lengths = [len(ids) for ids in documents.ids]
        self._cache = Cache(context.state / "scored")
        self._counter = Counter(context, sum(self._work(entrant) for entrant in found))

    def logs(self, entrant: Entrant) -> TokenLogs:
        """Of all documents, under one model.

        Raises:
            Interrupted: asked to stop; models scored so far are kept.
            ArrieroError: the model cannot be read.
        """
        if self._cache.has(BITS_PER_BYTE.name, entrant.name):
            self._counter.skip(self._work(entrant))
        flops = None if entrant.is_ngram else row_flops(config_of(entrant.spec.config), entrant.spec.format)
        progress = self._counter.of(entrant.name, BITS_PER_BYTE.title, flops)
        return self._kept(entrant.name, lambda: load_language_model(entrant.artifact.path), entrant, progress)

    def ngram_of(self, order: int, vocab_size: int, most_tokens: int) -> TokenLogs:
        """The same under an n-gram model of the first ``most_tokens`` training tokens, fitted here."""
        name = f"{order}-gram of {most_tokens} tokens"
        self._counter.show(name, "fitting")
        return self._kept(
            name,
            lambda: fit_reference(self._tokens.path, order, vocab_size, most_tokens),
            None,
            lambda lengths: stop_if_asked(self._context),
        )

    def _kept(
        self, name: str, make: Callable[[], LanguageModel], entrant: Entrant | None, progress: Progress
    ) -> TokenLogs:
        stop_if_asked(self._context)
        context = entrant.context if entrant else None

        def score() -> dict[str, np.ndarray]:
            found = score_tokens(make(), self._documents, context, self._step(context), progress)
            return {"logs": np.concatenate(found)}

        flat = self._cache.arrays(BITS_PER_BYTE.name, name, score)["logs"]
        return np.split(flat, np.cumsum([max(0, n - 1) for n in self._lengths])[:-1])

    def _step(self, context: int | None) -> int | None:
        return min(self._stride, context - 1) if self._stride and context else None

    def _work(self, entrant: Entrant) -> int:
        """Tokens that go through the model."""
        if entrant.context is None:
            return sum(self._lengths)
        return window_tokens(self._lengths, entrant.context, self._stride or default_stride(entrant.context))
