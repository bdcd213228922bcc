"""Which token comes where one was guessed: never one that the model by itself would not have given as often.

Two ways, both exact in distribution for any guess:

**The request's own draw.** The token is drawn from the model's distribution with the uniform number of its position,
as without speculation; the guess was right where it is that very token. A guess that is not random is right with
probability p(guess), which is all that any exact rule can give it (the rule below gives min(1, p/1)). Because the draw
knows nothing of the guess, **an answer with a seed is the same whether speculation is on or off** and whoever guesses,
bit for bit, as far as the runner's logits are the same for one row and for several (a batch-invariant runner). Greedy
answers are the case of temperature 0.

**Rejection** (Leviathan et al., 2023; Chen et al., 2023), for guesses that a draft model drew from its own distribution
q: the guess stays with probability min(1, p/q), else a token is drawn from the residual max(0, p - q), renormalised.
Guesses stay with probability 1 - TV(p, q), the most that is possible for drawn ones. The answer then depends on who
guessed, so it is used for requests without a seed only: nobody can ask for their answers again.
"""

from __future__ import annotations

import numpy as np

from arriero.inference.sampler import Distribution, uniform

ACCEPTANCE, RESIDUAL, DRAFT = 1, 2, 3
"""Purposes of :func:`~arriero.inference.sampler.uniform` beside the plain draw (0)."""


def keep_or_redraw(
    target: Distribution, guess: int, drawn_from: Distribution, seed: int, position: int, index: int
) -> int:
    """The guess, or a token from the residual: distributed as ``target`` when the guess is as ``drawn_from``.

    Draws are keyed by (seed, position, index), with purposes of their own, so they are independent of the guess.
    """
    p, q = target.probability(guess), drawn_from.probability(guess)
    if uniform(seed, position, index, ACCEPTANCE) * q < p:
        return guess
    left = residual(target, drawn_from)
    return left.draw(uniform(seed, position, index, RESIDUAL))


def residual(target: Distribution, drawn_from: Distribution) -> Distribution:
    """max(0, p - q), renormalised; p itself where rounding leaves nothing."""
    p = target.weights / target.total
    if target.ids is None:
        left = p - drawn_from.dense(len(p))
    elif drawn_from.ids is None:
        left = p - drawn_from.weights[target.ids] / drawn_from.total
    else:
        place = np.searchsorted(drawn_from.ids, target.ids).clip(max=len(drawn_from.ids) - 1)
        same = drawn_from.ids[place] == target.ids
        left = p - np.where(same, drawn_from.weights[place], 0.0) / drawn_from.total
    left = np.maximum(left, 0.0)
    return Distribution.of(left, target.ids) if left.any() else target
