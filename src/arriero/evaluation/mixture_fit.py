"""A law of held-out loss by the mixture's shares, and the shares that it finds best.

For every held-out source i, over the training sources j with shares r_j that add up to 1 (Ye et al. 2024, "Data mixing
laws", arXiv 2403.16952, equation 6, with k taken into t because the shares add up to 1):

    L_i(r) = c_i + exp(sum_j t_ij r_j)

For a given c_i that is a linear regression of log(L_i - c_i); c_i itself is found on one dimension. A weighted sum of such
laws is convex in r, so the best shares are found by exchanging share between pairs of sources until none helps.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError

Array = NDArray[np.float64]
_FLOORS = 64
_SMALLEST_STEP = 1e-5


@dataclass(frozen=True)
class MixtureLaw:
    """``floor`` float64[held-out sources] (c), ``slope`` float64[held-out sources, training sources] (t)."""

    floor: Array
    slope: Array

    def losses(self, shares: Array) -> Array:
        """Of each held-out source, float64[..., held-out sources], for shares float64[..., training sources]."""
        found: Array = self.floor + np.exp(np.asarray(shares) @ self.slope.T)
        return found


def fewest_runs(sources: int) -> int:
    """Runs that a law of so many training sources wants: one more than it has parameters."""
    return sources + 2


def fit_mixture(shares: Array, losses: Array) -> MixtureLaw:
    """Least squares.

    Args:
        shares: float64[runs, training sources], rows add up to 1.
        losses: float64[runs, held-out sources], nats a token.

    Raises:
        ArrieroError: too few runs, or their shares do not vary in all directions.
    """
    runs, sources = shares.shape
    if runs < fewest_runs(sources):
        raise ArrieroError(
            f"{runs} runs cannot tell a mixing law of {sources} sources: train at least {fewest_runs(sources)} proxies"
        )
    if np.linalg.matrix_rank(shares, tol=1e-3) < sources:
        raise ArrieroError("the proxies' mixtures are too much alike: vary every source's share on its own")
    fitted = [_fit_one(shares, column) for column in losses.T]
    return MixtureLaw(np.array([c for c, _ in fitted]), np.stack([t for _, t in fitted]))


def _fit_one(shares: Array, losses: Array) -> tuple[float, Array]:
    """c and t of one held-out source: the floor that leaves the smallest squares, on a grid that is refined twice."""
    most = float(losses.min()) * (1 - 1e-4)
    low, high = 0.0, most
    for _ in range(3):
        floors = np.linspace(low, high, _FLOORS)
        squares, slopes = _with_floors(shares, losses, floors)
        at = int(np.argmin(squares))
        step = (high - low) / (_FLOORS - 1)
        low, high = max(0.0, floors[at] - step), min(most, floors[at] + step)
    return float(floors[at]), slopes[at]


def _with_floors(shares: Array, losses: Array, floors: Array) -> tuple[Array, Array]:
    """Sums of squared residuals float64[floors] and t float64[floors, sources]; the regression of the logs is weighted so
    that they err as losses do."""
    above = losses - floors[:, None]
    rows = shares * above[:, :, None]
    squares = rows.transpose(0, 2, 1) @ rows
    squares += 1e-12 * np.trace(squares, axis1=1, axis2=2)[:, None, None] * np.eye(shares.shape[1])
    wanted = rows.transpose(0, 2, 1) @ (np.log(above) * above)[:, :, None]
    slopes: Array = np.asarray(np.linalg.solve(squares, wanted)[:, :, 0], np.float64)
    with np.errstate(over="ignore"):
        residuals = floors[:, None] + np.exp(slopes @ shares.T) - losses
        misses: Array = np.asarray((residuals**2).sum(axis=1), np.float64)
    return misses, slopes


def bootstrap_mixture(
    law: MixtureLaw, shares: Array, losses: Array, draws: int, seed: int
) -> list[MixtureLaw]:
    """Laws fitted to losses drawn anew: the fitted ones and resampled errors (rows whole, so that what the held-out sources
    of a run have in common stays together).

    The errors are those of each run predicted by the law of the others, so that what the law's form gets wrong widens the
    intervals too; without a run to spare, the residuals widened for the parameters that the fit has used up.
    """
    fitted = law.losses(shares)
    errors = prediction_errors(law, shares, losses)
    rng = np.random.Generator(np.random.Philox(seed))
    found = []
    for _ in range(draws):
        drawn = fitted + errors[rng.integers(0, len(shares), len(shares))]
        found.append(fit_mixture(shares, np.maximum(drawn, 1e-6)))
    return found


def prediction_errors(law: MixtureLaw, shares: Array, losses: Array) -> Array:
    """By how much runs lie over what is predicted, float64[runs, held-out sources], centred; see
    :func:`bootstrap_mixture`."""
    predicted = left_out_errors(shares, losses)
    if predicted is None:
        spare = max(1, len(shares) - shares.shape[1] - 1)
        errors = (losses - law.losses(shares)) * np.sqrt(len(shares) / spare)
    else:
        errors = -predicted
    centred: Array = errors - errors.mean(axis=0)
    return centred


def left_out_errors(shares: Array, losses: Array) -> Array | None:
    """Prediction minus loss of every run by the law of the others, float64[runs, held-out sources]; None where there
    is no run to spare."""
    if len(shares) <= fewest_runs(shares.shape[1]):
        return None
    errors = []
    for run in range(len(shares)):
        rest = np.arange(len(shares)) != run
        try:
            errors.append(fit_mixture(shares[rest], losses[rest]).losses(shares[run]) - losses[run])
        except ArrieroError:  # without this run one source's share does not vary
            return None
    return np.stack(errors)


def best_shares(law: MixtureLaw, weights: Array, low: Array, high: Array) -> Array:
    """Shares within [low, high] that make the weighted loss smallest, float64[training sources].

    Raises:
        ArrieroError: no shares within the bounds add up to 1.
    """
    if low.sum() > 1 + 1e-9 or high.sum() < 1 - 1e-9:
        raise ArrieroError("no shares within the bounds add up to 1")
    room = high - low
    shares = low + room * (1 - low.sum()) / max(room.sum(), 1e-12)
    value, step = float(weights @ law.losses(shares)), 0.25
    while step >= _SMALLEST_STEP:
        moves = []
        for giver, taker in itertools.permutations(range(len(shares)), 2):
            moved = min(step, shares[giver] - low[giver], high[taker] - shares[taker])
            if moved > _SMALLEST_STEP / 10:
                other = shares.copy()
                other[giver] -= moved
                other[taker] += moved
                moves.append((float(weights @ law.losses(other)), other))
        least = min(moves, key=lambda move: move[0], default=(value, shares))
        if least[0] < value - 1e-12:
            value, shares = least
        else:
            step /= 2
    return shares
