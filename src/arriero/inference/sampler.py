"""Choosing the next token from logits.

Every draw is keyed by (request seed, position), never by a shared stream, so the other requests of a batch
cannot change a request's samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arriero.inference.request import Sampling, TokenLogprob

Floats = NDArray[np.float64]
Counts = dict[int, int]


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on the seed and the position alone.

    Philox 4x64 is a counter-based generator (Salmon et al., 2011): the seed is its key, the position its counter.
    """
    generator = np.random.Philox(key=seed % 2**64, counter=position)
    return float(generator.random_raw(1)[0] >> np.uint64(11)) * 2.0**-53


def penalise(logits: Floats, sampling: Sampling, prompt: set[int], answer: Counts) -> Floats:
    """Logits ``[V]`` after the penalties on tokens that were seen before.

    Repetition (CTRL, Keskar et al., 2019, section 4.1): positive logits are divided, negative ones multiplied,
    for tokens of prompt and answer. Presence and frequency: OpenAI's, on the answer alone.
    """
    if (
        sampling.repetition_penalty == 1
        and sampling.presence_penalty == 0
        and sampling.frequency_penalty == 0
    ):
        return logits
    logits = logits.copy()
    if sampling.repetition_penalty != 1:
        seen = np.fromiter(prompt | answer.keys(), dtype=np.int64)
        values = logits[seen]
        scale = sampling.repetition_penalty
        logits[seen] = np.where(values > 0, values / scale, values * scale)
    if answer:
        ids = np.fromiter(answer.keys(), dtype=np.int64)
        times = np.fromiter(answer.values(), dtype=np.float64)
        logits[ids] -= sampling.presence_penalty + sampling.frequency_penalty * times
    return logits


def probabilities(logits: Floats, sampling: Sampling) -> Floats:
    """The distribution ``[V]`` that a token is drawn from: temperature, min-p, top-k, top-p, renormalised.

    Temperature must be above 0. At equal probability the lower token id is kept first, and top-p keeps the
    token that crosses p (Holtzman et al., 2020).
    """
    scaled = logits / sampling.temperature
    weights = np.exp(scaled - scaled.max())
    if sampling.min_p > 0:
        weights[weights < sampling.min_p] = 0.0  # the best token's weight is 1
    if sampling.top_k or sampling.top_p < 1:
        weights = _keep_best(weights, sampling.top_k, sampling.top_p)
    return weights / weights.sum()


def _keep_best(weights: Floats, top_k: int, top_p: float) -> Floats:
    order = np.argsort(-weights, kind="stable")
    if top_k:
        order = order[:top_k]
    if top_p < 1:
        cumulative = np.cumsum(weights[order])
        order = order[: 1 + int(np.searchsorted(cumulative, top_p * cumulative[-1], side="left"))]
    kept = np.zeros_like(weights)
    kept[order] = weights[order]
    return kept


def draw(distribution: Floats, seed: int, position: int) -> int:
    """One token id from probabilities ``[V]``, by inversion."""
    cumulative = np.cumsum(distribution)
    place = int(np.searchsorted(cumulative, uniform(seed, position) * cumulative[-1], side="right"))
    # rounding can put the number at the very top: the last token that has any probability is meant
    return place if place < len(cumulative) else int(np.flatnonzero(distribution)[-1])


def choose(
    logits: Floats, sampling: Sampling, seed: int, position: int, prompt: set[int], answer: Counts
) -> int:
    """The next token id for one request, from its logits ``[V]``.

    Args:
        position: place of the new token in the whole sequence.
        prompt: ids of the prompt. answer: how often each id is in the answer so far.
    """
    logits = penalise(logits, sampling, prompt, answer)
    if sampling.temperature == 0:
        return int(logits.argmax())
    return draw(probabilities(logits, sampling), seed, position)


def log_probabilities(logits: Floats) -> Floats:
    """Natural-log probabilities ``[V]`` of the model's own distribution."""
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def best(logprobs: Floats, count: int) -> tuple[TokenLogprob, ...]:
    """The ``count`` most probable tokens, best first."""
    count = min(count, len(logprobs))
    if count == 0:
        return ()
    found = np.argpartition(-logprobs, count - 1)[:count]
    found = found[np.lexsort((found, -logprobs[found]))]
    return tuple(TokenLogprob(int(i), float(logprobs[i])) for i in found)
