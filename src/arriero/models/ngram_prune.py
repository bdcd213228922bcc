"""Entropy pruning: leave out the n-grams that the model hardly needs.

Stolcke (1998), "Entropy-based pruning of backoff language models", arXiv cs/0006025. For each n-gram ``hw`` the
relative entropy between the model and the one that backs off for it is worked out in closed form (equation 5,
with the back-off weight of ``h`` changed as in equation 6); where it raises the perplexity on the model's own text by
less than a threshold, the n-gram goes. Then all back-off weights are worked out anew.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError
from arriero.models.ngram_tables import Floats, Ints, Level, Tables

_TINY = 1e-300


def prune_by_entropy(
    tables: Tables, threshold: float, bos_id: int | None = None, eos_id: int | None = None
) -> Tables:
    """The model without n-grams each of which changes the perplexity by a share below ``threshold``.

    Highest order first; an n-gram stays while a longer one that begins with it stays, because the longer one is found
    through it, or one that ends in it, because KenLM asks for that. Order 1 is not pruned. The probability of a context is taken from the model itself; where the context
    begins with ``bos_id``, which is never predicted, that of ``eos_id`` stands for it: there are as many of both.

    Raises:
        ArrieroError: the threshold is not a share above 0.
    """
    if not 0 < threshold < float("inf"):
        raise ArrieroError(
            f"the threshold {threshold:g} of entropy pruning should be above 0, for example 1e-7"
        )
    kept = [np.ones(level.keys.size, bool) for level in tables.levels]
    first = tables.levels[0].p.copy()
    if bos_id is not None and eos_id is not None:
        first[bos_id] = first[eos_id]
    for n in range(tables.order, 1, -1):
        needed = np.zeros(tables.levels[n - 1].keys.size, bool)
        if n < tables.order:
            grams = tables.grams_of(n + 1, 0, tables.levels[n].keys.size)[kept[n]]
            for part in (grams[:, :-1], grams[:, 1:]):
                rows = tables.rows_of(part)
                needed[rows[rows >= 0]] = True
        kept[n - 1] = needed | (_perplexity_change(tables, n, first) >= threshold)
    left = _without(tables, kept)
    about = {**tables.about, "entropy_pruned": threshold}
    return with_normal_backoffs(replace(left, about=about))


def _perplexity_change(tables: Tables, n: int, first: Floats) -> Floats:
    """Relative growth of the perplexity if one n-gram of order n is left out, for each of them.

    ``first`` [V]: probability of a token to be the first of a context.
    """
    level, contexts = tables.levels[n - 1], tables.levels[n - 1].keys // tables.vocab_size
    if not level.keys.size:
        return np.zeros(0)
    grams = tables.grams_of(n, 0, level.keys.size)
    lower = probabilities(tables, grams[:, 1:])
    rows = tables.levels[n - 2].p.size
    above = _remainder(level.p, contexts, rows)
    below = _remainder(lower, contexts, rows)
    before = tables.levels[n - 2].backoff[contexts]
    after = np.maximum(above[contexts] + level.p, _TINY) / np.maximum(below[contexts] + lower, _TINY)
    with np.errstate(divide="ignore", invalid="ignore"):
        explicit = level.p * (np.log(lower) + np.log(after) - np.log(level.p))
        rest = above[contexts] * np.where(above[contexts] > 0, np.log(after) - np.log(before), 0.0)
    history = _history(tables, grams[:, :-1], first)
    entropy = -history * (np.where(level.p > 0, explicit, 0.0) + rest)
    # what cannot be worked out (a probability of 0 below) is kept
    return np.where(np.isfinite(entropy), np.expm1(entropy), np.inf)


def _remainder(p: Floats, contexts: Ints, n_contexts: int) -> Floats:
    """1 minus the sum of the probabilities that stand in the table, of every context; never below 0."""
    return np.maximum(1.0 - np.bincount(contexts, weights=p, minlength=n_contexts), 0.0)


def _history(tables: Tables, grams: Ints, first: Floats) -> Floats:
    """Probability of whole contexts [R, n] by the chain rule."""
    p = first[grams[:, 0]]
    for stop in range(2, grams.shape[1] + 1):
        p = p * probabilities(tables, grams[:, :stop])
    return p


def probabilities(tables: Tables, grams: Ints) -> Floats:
    """P(w_n | w_1 … w_{n-1}) of n-grams [R, n], n at most the model's order."""
    n = grams.shape[1]
    p = tables.levels[0].p[grams[:, -1]]
    for size in range(2, n + 1):
        context = tables.rows_of(grams[:, n - size : -1])
        p = np.where(context >= 0, p * tables.levels[size - 2].backoff[context], p)
        level = tables.levels[size - 1]
        if level.keys.size:
            rows = tables.rows_of(grams[:, n - size :])
            p = np.where(rows >= 0, level.p[rows], p)
    return p


def _without(tables: Tables, kept: list[NDArray[np.bool_]]) -> Tables:
    """The tables with the kept rows only."""
    levels = [tables.levels[0]]
    rows = np.arange(tables.vocab_size)
    for level, keep in zip(tables.levels[1:], kept[1:], strict=True):
        contexts, tokens = np.divmod(level.keys[keep], tables.vocab_size)
        backoff = level.backoff[keep] if level.backoff.size else level.backoff
        levels.append(Level(rows[contexts] * tables.vocab_size + tokens, level.p[keep], backoff))
        rows = np.cumsum(keep) - 1
    return replace(tables, levels=levels)


def with_normal_backoffs(tables: Tables) -> Tables:
    """The tables with the back-off weights that make probabilities sum to 1, worked out from order 2 up.

    ``backoff(h) = (1 - sum p(w|h)) / (1 - sum p(w|h'))`` over the ``w`` that the table has after ``h``; 1 where it has
    none. Where it has all words, nothing ever backs off and the weight stays.
    """
    levels = list(tables.levels)
    for n in range(2, tables.order + 1):
        now = replace(tables, levels=levels)
        level, contexts = levels[n - 1], levels[n - 1].keys // tables.vocab_size
        lower = probabilities(now, now.grams_of(n, 0, level.keys.size)[:, 1:])
        size = levels[n - 2].p.size
        above, below = _remainder(level.p, contexts, size), _remainder(lower, contexts, size)
        followed = np.bincount(contexts, minlength=size) > 0
        old = levels[n - 2].backoff
        new = np.where(below > 0, above / np.where(below > 0, below, 1.0), old)
        levels[n - 2] = replace(levels[n - 2], backoff=np.where(followed, new, 1.0))
    return replace(tables, levels=levels)
