"""Descent from many starts at once: BFGS, vectorised over the starts.

In a handful of unknowns the limited-memory variant (L-BFGS), which the papers use, keeps all that BFGS keeps; so this is
the same method with the inverse Hessian written out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Objective = Callable[[Floats, Numbers], tuple[Floats, Floats]]
"""x [M, P] and the numbers [M] of the starts that they belong to -> (value [M], gradient [M, P])."""

_SUFFICIENT = 1e-4
_SHRINK = 0.35
_BACKTRACKS = 30


def minimise(
    objective: Objective, starts: Floats, *, steps: int = 300, tolerance: float = 1e-12
) -> tuple[Floats, Floats]:
    """Where each start comes to rest.

    Args:
        starts: [S, P].
        tolerance: a start rests when a step lowers its value by less than this share, or no step lowers it.

    Returns:
        x [S, P] and value [S].
    """
    x = np.array(starts, dtype=float)
    value, slope = objective(x, np.arange(len(x)))
    inverse = np.tile(np.eye(x.shape[1]), (len(x), 1, 1))
    going = np.isfinite(value)
    for _ in range(steps):
        live = np.flatnonzero(going)
        if not live.size:
            break
        descent = -np.einsum("sij,sj->si", inverse[live], slope[live])
        uphill = np.einsum("si,si->s", descent, slope[live]) >= 0
        if uphill.any():  # rounding has spoilt the inverse: begin again from the steepest way down
            inverse[live[uphill]] = np.eye(x.shape[1])
            descent[uphill] = -slope[live[uphill]]
        moved, new_value, new_slope, found = _line_search(
            objective, live, x[live], value[live], slope[live], descent
        )
        _update(inverse, live, moved - x[live], new_slope - slope[live])
        gain = value[live] - new_value
        x[live], value[live], slope[live] = moved, new_value, new_slope
        going[live] = found & (gain > tolerance * np.maximum(np.abs(new_value), 1e-30))
    return x, value


def _line_search(
    objective: Objective, live: Numbers, x: Floats, value: Floats, slope: Floats, descent: Floats
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Backtracking until Armijo's condition holds; those that find no lower place stay where they are."""
    drop = np.einsum("si,si->s", descent, slope)
    length = np.minimum(1.0, 2.0 / np.maximum(np.abs(descent).max(axis=1), 1e-300))
    best, at, grad = x.copy(), value.copy(), slope.copy()
    waiting = np.arange(len(x))
    for _ in range(_BACKTRACKS):
        trial = x[waiting] + length[waiting, None] * descent[waiting]
        new, new_slope = objective(trial, live[waiting])
        good = new <= value[waiting] + _SUFFICIENT * length[waiting] * drop[waiting]
        done = waiting[good]
        best[done], at[done], grad[done] = trial[good], new[good], new_slope[good]
        waiting = waiting[~good]
        if not waiting.size:
            break
        length[waiting] *= _SHRINK
    found = np.ones(len(x), dtype=bool)
    found[waiting] = False
    return best, at, grad, found


def _update(inverse: Floats, live: Numbers, step: Floats, change: Floats) -> None:
    """The BFGS update, where the curvature along the step is positive."""
    along = np.einsum("si,si->s", step, change)
    size = np.linalg.norm(step, axis=1) * np.linalg.norm(change, axis=1)
    use = along > 1e-10 * np.maximum(size, 1e-300)
    chosen, s, y = live[use], step[use], change[use]
    rho = 1 / along[use]
    left = np.eye(step.shape[1]) - rho[:, None, None] * s[:, :, None] * y[:, None, :]
    inverse[chosen] = left @ inverse[chosen] @ left.transpose(0, 2, 1)
    inverse[chosen] += rho[:, None, None] * s[:, :, None] * s[:, None, :]
