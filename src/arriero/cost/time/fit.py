"""Coefficients from measured steps: non-negative least squares on relative error, held back by the prior.

    minimise  sum_i w_i ((x_i . u) / y_i - 1)^2  +  ridge * sum_j (u_j - 1)^2,   u >= 0

where x_i are the seconds that the prior gives step i, kind of work by kind of work, y_i what it took, and u_j what
each prior coefficient is multiplied by. The ridge keeps what the rows say nothing about where the prior put it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arriero.cost.time.coefficients import NAMES, Coefficients
from arriero.cost.time.model import slopes
from arriero.cost.time.rows import Observation, Rows, Steps, in_arrays
from arriero.errors import ArrieroError

RIDGE = 0.03
"""Weight of the prior beside one measured row (on squared relative errors): a coefficient may be off by half as
soon as a row then fits 9 % better. Chosen on the replay suites, see tests/cost/time/test_replay.py."""

_ENOUGH = 3
"""Rows below which leaving one out says nothing."""
_ROUNDS = 8
"""What hides behind what depends on the coefficients themselves; each round goes half of the way."""


def nonnegative_least_squares(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The x >= 0 that minimises |matrix x - target| (Lawson and Hanson 1974, chapter 23), shape (columns,)."""
    normal, right = matrix.T @ matrix, matrix.T @ target
    x = np.zeros(matrix.shape[1])
    free = np.zeros(matrix.shape[1], dtype=bool)
    tolerance = 1e-12 * max(1.0, float(np.abs(right).max(initial=0.0)))
    for _ in range(10 * matrix.shape[1]):
        slope = np.where(free, -np.inf, right - normal @ x)
        if slope.max(initial=-np.inf) <= tolerance:
            break
        free[int(slope.argmax())] = True
        x = _solve_free(normal, right, free, x)
    return x


def _solve_free(normal: np.ndarray, right: np.ndarray, free: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Solve for the free columns; those that would turn negative are fixed at zero on the way there."""
    while free.any():
        step = np.zeros_like(x)
        step[free] = np.linalg.lstsq(normal[np.ix_(free, free)], right[free], rcond=None)[0]
        negative = free & (step <= 0)
        if not negative.any():
            return step
        alpha = float((x[negative] / np.maximum(x[negative] - step[negative], 1e-300)).min())
        x = x + alpha * (step - x)
        free &= x > 1e-15
        x = np.where(free, x, 0.0)
    return np.zeros_like(x)


def factors(seconds: np.ndarray, measured: np.ndarray, weights: np.ndarray, ridge: float) -> np.ndarray:
    """Multipliers of the prior's coefficients, from the seconds [rows, coefficients] it gives by kind of work."""
    root = np.sqrt(weights)
    count = seconds.shape[1]
    matrix = np.vstack([seconds * (root / measured)[:, None], np.sqrt(ridge) * np.eye(count)])
    return nonnegative_least_squares(matrix, np.concatenate([root, np.full(count, np.sqrt(ridge))]))


def fit(
    steps: Sequence[Observation], prior: Coefficients, ridge: float = RIDGE, tier: str = "calibrated"
) -> Coefficients:
    """Coefficients that the steps ask for, with the spread of their errors when each is left out in turn.

    Args:
        prior: the data sheet's, or those fitted before, which new steps then sharpen.
        tier: what the result rests on, a key of :data:`arriero.cost.time.TIERS`.

    Raises:
        ArrieroError: there are no steps, or the prior is unknown in something they need.
    """
    if not steps:
        raise ArrieroError("coefficients need at least one measured step to be fitted on")
    rows = in_arrays(steps)
    found = fit_factors([(rows, prior)], ridge)
    spread = _left_out_spread(rows, prior, found, ridge)
    return prior.scaled(found, tier=tier, spread=spread, rows=len(rows))


def fit_without_spread(steps: Steps, prior: Coefficients, ridge: float = RIDGE) -> Coefficients:
    """The coefficients alone, for those who leave rows out themselves."""
    return prior.scaled(fit_factors([(steps, prior)], ridge))


def predict(steps: Steps, coefficients: Coefficients) -> np.ndarray:
    """Seconds of each step, shape [steps]."""
    known = np.where(np.isnan(coefficients.values), 0.0, coefficients.values)
    return design(in_arrays(steps), coefficients) @ known


def fit_factors(groups: Sequence[tuple[Steps, Coefficients]], ridge: float = RIDGE) -> np.ndarray:
    """One set of factors for several devices of a class, each with the coefficients of its own data sheet.

    Raises:
        ArrieroError: a row needs what its data sheet does not know.
    """
    prepared = [(in_arrays(steps), sheet) for steps, sheet in groups]
    measured = np.concatenate([rows.seconds for rows, _ in prepared])
    weights = np.concatenate([rows.weights for rows, _ in prepared])
    found = np.ones(len(NAMES))
    for number in range(_ROUNDS):
        seconds = np.vstack([_seconds(rows, sheet, found) for rows, sheet in prepared])
        wanted = factors(seconds, measured, weights, ridge)
        found = wanted if number == 0 else (found + wanted) / 2
    return found


def design(rows: Rows, coefficients: Coefficients) -> np.ndarray:
    """Slopes of each row's seconds by coefficient, shape [rows, coefficients]."""
    return np.stack(np.broadcast_arrays(*slopes(rows.asked, coefficients)), axis=-1)


def _seconds(rows: Rows, prior: Coefficients, found: np.ndarray) -> np.ndarray:
    """The prior's seconds by kind of work, as far as nothing hides them under the factors found so far."""
    units = design(rows, prior.scaled(found))
    unknown = np.isnan(prior.values)
    if np.isnan(units).any() or (units[:, unknown] > 0).any():
        raise ArrieroError(f"the rows need what is unknown: {'; '.join(prior.missing)}")
    return units * np.where(unknown, 0.0, prior.values)


def _left_out_spread(rows: Rows, prior: Coefficients, found: np.ndarray, ridge: float) -> float | None:
    """Root mean square of log(measured / predicted), each row predicted from the others."""
    if len(rows) < _ENOUGH:
        return None
    seconds = _seconds(rows, prior, found)
    errors = []
    for index in range(len(rows)):
        keep = np.arange(len(rows)) != index
        u = factors(seconds[keep], rows.seconds[keep], rows.weights[keep], ridge)
        errors.append(np.log(rows.seconds[index] / max(float(seconds[index] @ u), 1e-300)))
    return float(np.sqrt(np.mean(np.square(errors))))
