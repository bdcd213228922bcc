"""Bits per byte: how well a model predicts held-out text, whatever its vocabulary.

Every token but a document's first is scored exactly once (EOS too: where a text ends is part of it). Documents
longer than the model's context are read in windows that overlap, so that each token has the tokens of
at least ``context - stride`` places before it in sight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from arriero.evaluation.documents import Documents
from arriero.evaluation.progress import Progress, silent
from arriero.models.protocol import LanguageModel

Floats = NDArray[np.float64]
TOKENS_AT_ONCE = 1 << 14
"""Tokens that are handed to the model between two reports of progress."""
Window = tuple[int, int, int]
"""(start, stop, first): a window of tokens ``start:stop`` of which those from ``first`` on are scored."""


def windows(length: int, context: int | None, stride: int) -> Iterator[Window]:
    """Windows over a document of ``length`` tokens; without a ``context`` one window holds it all.

    Raises:
        ValueError: ``stride`` is not between 1 and ``context - 1``: some token would have nothing before it.
    """
    if context is None or length <= context:
        if length > 1:
            yield 0, length, 1
        return
    if not 1 <= stride < context:
        raise ValueError(f"stride {stride} for a context of {context}")
    yield 0, context, 1
    scored = context
    while scored < length:
        stop = min(scored + stride, length)
        yield stop - context, stop, scored
        scored = stop


def default_stride(context: int) -> int:
    """Half the context: every token sees at least the other half, and the work is doubled at most."""
    return max(1, context // 2)


def window_tokens(lengths: Sequence[int], context: int, stride: int | None = None) -> int:
    """Tokens that go through the model for documents of these lengths, each as often as windows hold it."""
    step = min(stride or default_stride(context), context - 1)
    return sum(stop - start for length in lengths for start, stop, _ in windows(length, context, step))


def score_documents(
    model: LanguageModel,
    documents: Documents,
    context: int | None,
    stride: int | None = None,
    progress: Progress = silent,
) -> Floats:
    """Bits of each document [n]: minus log2 of the probability of all its tokens but the first.

    Args:
        context: most tokens that the model takes at once; None for no limit.
        stride: tokens scored by each window after a document's first; by default half the context.
        progress: is told the lengths of the windows gone through, after every batch.
    """
    logs = score_tokens(model, documents, context, stride, progress)
    return np.asarray([-values.sum() / math.log(2) for values in logs])


def score_tokens(
    model: LanguageModel,
    documents: Documents,
    context: int | None,
    stride: int | None = None,
    progress: Progress = silent,
) -> list[Floats]:
    """Natural-log probability of every token but the first of each document: float64 [tokens - 1] each.

    Arguments as for :func:`score_documents`.
    """
    step = stride or default_stride(context or 2)
    jobs = [
        (number, window)
        for number, ids in enumerate(documents.ids)
        for window in windows(len(ids), context, step)
    ]
    # windows of like length together: less padding
    jobs.sort(key=lambda job: job[1][0] - job[1][1])
    logs = [np.zeros(max(0, len(ids) - 1)) for ids in documents.ids]
    for batch in _batches(jobs):
        texts = [documents.ids[number][start:stop].tolist() for number, (start, stop, _) in batch]
        for (number, (start, stop, first)), values in zip(batch, model.token_logprobs(texts), strict=True):
            logs[number][first - 1 : stop - 1] = values[first - start - 1 :]
        progress([len(text) for text in texts])
    return logs


def _batches(jobs: Sequence[tuple[int, Window]]) -> Iterator[list[tuple[int, Window]]]:
    batch: list[tuple[int, Window]] = []
    tokens = 0
    for job in jobs:
        size = job[1][1] - job[1][0]
        if batch and tokens + size > TOKENS_AT_ONCE:
            yield batch
            batch, tokens = [], 0
        batch.append(job)
        tokens += size
    if batch:
        yield batch
