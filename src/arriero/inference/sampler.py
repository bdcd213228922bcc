"""Choosing the next token from logits.

Every draw is keyed by (request seed, which answer, position), never by a shared stream, so the other requests of a
batch cannot change a request's samples. Each row is worked on alone and in the same order of operations whatever the
batch, so its results have the same bits there: a row of 128k logits is long enough to fill the processor's vectors by
itself.

No step sorts a whole row unless top-p needs most of it: bounds come from a partial partition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.inference.request import Sampling, TokenLogprob

Floats = NDArray[np.floating]
"""A row of logits or weights: float32 from the engine, float64 where a test wants it finer."""

Ids = NDArray[np.int64]

SEGMENT = 512
"""Weights that are summed as one on the way to the one that a draw lands on."""

FIRST_GUESS = 256
"""Tokens that are looked at first for top-p, before a whole row is sorted."""


def uniform(seed: int, position: int, index: int = 0, purpose: int = 0) -> float:
    """A number in [0, 1) that depends on its four arguments alone.

    Philox 4x64 is a counter-based generator (Salmon et al., 2011): seed and index (which of a request's answers) are
    its key, position and purpose (0: the draw of a token) its counter.
    """
    key = (seed % 2**64) | (index << 64)
    generator = np.random.Philox(key=key, counter=position | (purpose << 64))
    return float(generator.random_raw(1)[0] >> np.uint64(11)) * 2.0**-53


@dataclass(frozen=True)
class Distribution:
    """What a token is drawn from.

    Attributes:
        ids: the tokens that may come, ascending; None: all of the vocabulary, 0, 1, 2 ...
        weights: their probabilities times ``total``.
        total: sum of the weights, the last of the running sums that :meth:`draw` looks into.
    """

    ids: Ids | None
    weights: Floats
    total: float

    @classmethod
    def of(cls, weights: Floats, ids: Ids | None = None) -> Distribution:
        """From weights that are 0 or more; at least one is more."""
        return cls(ids, weights, float(_segment_sums(weights)[-1]))

    def draw(self, u: float) -> int:
        """The token id where the running sum of probabilities, by token id, passes ``u`` (inversion)."""
        sums = _segment_sums(self.weights)
        target = u * self.total
        segment = min(int(np.searchsorted(sums, target, side="right")), len(sums) - 1)
        start = segment * SEGMENT
        inside = np.cumsum(self.weights[start : start + SEGMENT], dtype=np.float64)
        rest = target - (sums[segment - 1] if segment else 0.0)
        place = start + int(np.searchsorted(inside, rest, side="right"))
        # rounding can put the number past the end of its segment: the last token there that can come is meant
        if place >= min(start + SEGMENT, len(self.weights)):
            place = int(np.flatnonzero(self.weights[: start + SEGMENT])[-1])
        return place if self.ids is None else int(self.ids[place])

    def probability(self, token: int) -> float:
        """Probability of a token id."""
        if self.ids is None:
            return float(self.weights[token]) / self.total
        place = int(np.searchsorted(self.ids, token))
        if place == len(self.ids) or self.ids[place] != token:
            return 0.0
        return float(self.weights[place]) / self.total

    def dense(self, size: int) -> NDArray[np.float64]:
        """All probabilities, float64 ``[size]``."""
        result = np.zeros(size)
        result[slice(None) if self.ids is None else self.ids] = self.weights
        return result / self.total


def distribution(logits: Floats, sampling: Sampling) -> Distribution:
    """What a token is drawn from, for logits ``[V]``: temperature, min-p, top-k, top-p, renormalised.

    Temperature must be above 0. At equal probability the lower token id is kept first, and top-p keeps the token that
    crosses p (Holtzman et al., 2020).
    """
    weights = logits - logits.max()  # the best token's weight is 1
    if sampling.temperature != 1:
        with np.errstate(
            over="ignore"
        ):  # a tiny temperature takes what is not the best to -inf, as it should
            weights /= weights.dtype.type(max(sampling.temperature, np.finfo(weights.dtype).tiny))
    np.exp(weights, out=weights)
    ids = None
    if sampling.top_k and sampling.top_k < len(weights):
        ids = _largest(weights, sampling.top_k)
        weights = weights[ids]
    if sampling.min_p > 0:
        kept = np.flatnonzero(weights >= sampling.min_p)
        weights, ids = weights[kept], kept if ids is None else ids[kept]
    if sampling.top_p < 1:
        kept = _nucleus(weights, sampling.top_p)
        weights, ids = weights[kept], kept if ids is None else ids[kept]
    return Distribution.of(weights, ids)


def probabilities(logits: Floats, sampling: Sampling) -> NDArray[np.float64]:
    """All probabilities ``[V]`` of :func:`distribution`, float64."""
    return distribution(logits, sampling).dense(len(logits))


def _segment_sums(weights: Floats) -> NDArray[np.float64]:
    """Running sums at the ends of segments, float64 ``[ceil(n / SEGMENT)]``."""
    whole = len(weights) // SEGMENT * SEGMENT
    sums = weights[:whole].reshape(-1, SEGMENT).sum(axis=1, dtype=np.float64)
    if whole < len(weights):
        sums = np.append(sums, weights[whole:].sum(dtype=np.float64))
    return np.cumsum(sums)


def _largest(values: Floats, count: int) -> Ids:
    """Places of the ``count`` largest values, ascending; of equal ones the first places."""
    if count >= len(values):
        return np.arange(len(values))
    return _from(values, np.partition(values, len(values) - count)[len(values) - count], count)


def _from(values: Floats, bound: np.floating, count: int) -> Ids:
    """The same where the smallest of them is known to be ``bound``."""
    places = np.flatnonzero(values >= bound)
    if len(places) > count:  # several values equal the bound: only its first places are kept
        above = values[places] > bound
        equal = places[~above][: count - int(above.sum())]
        places = np.sort(np.concatenate([places[above], equal]))
    return places


def _nucleus(weights: Floats, top_p: float) -> Ids:
    """Places of the fewest largest weights that reach ``top_p`` of their sum, ascending."""
    total = weights.sum(dtype=np.float64)
    goal = top_p * total
    # all weights below this bound together are less than what may be missing, so the others reach the goal
    able = np.flatnonzero(weights >= (1 - top_p) * 0.999 * total / len(weights))
    weights = weights[able]
    for guess in (FIRST_GUESS, len(weights)):
        ranked = np.sort(weights[_largest(weights, guess)])[::-1]
        sums = np.cumsum(ranked, dtype=np.float64)
        if sums[-1] >= goal:
            break
    count = min(1 + int(np.searchsorted(sums, goal, side="left")), len(weights))
    return np.asarray(able[_from(weights, ranked[count - 1], count)])


def log_normaliser(logits: Floats) -> float:
    """log of the sum of exp(logits ``[V]``): a token's log-probability is its logit less this."""
    peak = logits.max()
    return float(peak) + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))


def best(logits: Floats, count: int, normaliser: float) -> tuple[TokenLogprob, ...]:
    """The ``count`` most probable tokens, best first, under the model's own distribution."""
    if count == 0:
        return ()
    found = _largest(logits, count)
    found = found[np.argsort(-logits[found], kind="stable")]
    return tuple(TokenLogprob(int(i), float(logits[i]) - normaliser) for i in found)
