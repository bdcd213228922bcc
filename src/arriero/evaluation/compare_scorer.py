"""The work of the stage ``compare``: every model over the same documents, token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from arriero.artifacts import Artifact
from arriero.data.shards import TokenShards
from arriero.evaluation.answers import Floats
from arriero.evaluation.bits_per_byte import default_stride, score_tokens, window_tokens
from arriero.evaluation.cache import Cache
from arriero.evaluation.compare_entrants import Entrant
from arriero.evaluation.comparison import BITS_PER_BYTE
from arriero.evaluation.documents import Documents, Ids
from arriero.evaluation.forecast import config_of, row_flops
from arriero.evaluation.progress import Counter, Progress, stop_if_asked
from arriero.models.checkpoint import load_language_model
from arriero.models.ngram import NGram
from arriero.models.ngram_smoothing import DEFAULT
from arriero.models.protocol import LanguageModel
from arriero.stage import Context

TokenLogs = list[Floats]
"""Natural-log probabilities of the tokens but the first of each document."""


def document_bits(logs: TokenLogs) -> Floats:
    """Bits of each document [n]."""
    return np.asarray([-values.sum() / math.log(2) for values in logs])


def fit_on_part(ngram: Entrant, tokens: Path, most_tokens: int) -> NGram:
    """The n-gram model as its own stage would make it of documents that hold ``most_tokens`` tokens together.

    They are drawn at random from the whole training split: its first ones often come from one source.
    """
    config, settings = ngram.spec.config, ngram.artifact.manifest.settings
    return NGram.fit(
        drawn_documents(tokens, most_tokens), int(config["order"]), int(config["vocab_size"]),
        config.get("smoothing", DEFAULT), settings.get("smoothing_weight"), settings.get("prune") or (),
    )  # fmt: skip


def drawn_documents(tokens: Path, most_tokens: int) -> Iterator[Ids]:
    """Training documents in random order (always the same), the last one cut where the tokens are used up."""
    shards, left = TokenShards.open(tokens, "train"), most_tokens
    for number in np.random.default_rng(0).permutation(shards.n_documents):
        if left <= 0:
            return
        document = shards.document(int(number))[:left]
        left -= len(document)
        yield document


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

    def refitted(self, ngram: Entrant, most_tokens: int) -> TokenLogs:
        """The same under the n-gram model as it would be of ``most_tokens`` training tokens, fitted here."""
        name = f"{ngram.name} of {most_tokens} tokens"
        self._counter.show(name, "fitting")
        return self._kept(
            name,
            lambda: fit_on_part(ngram, self._tokens.path, most_tokens),
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
