"""The parametric law fitted to runs: Hoffmann et al. 2022, approach 3 (section 3.3 and appendix D.4).

    minimise over (a, b, e, alpha, beta)  sum_i Huber_delta(LSE(a - alpha ln N_i, b - beta ln D_i, e) - ln L_i)

with A = exp(a), B = exp(b), E = exp(e), and LSE the logarithm of the sum of exponentials. The sum is taken as it is: the paper's
own fit took the mean, whose values are so small that its optimiser stopped early (Besiroglu et al. 2024, section 4).

Three things make the descent safe that the paper leaves to luck: ln N and ln D are taken from their means (a and
alpha are else nearly one direction), the starts come from the linear problem that is left once the exponents are chosen, and
delta is lowered in stages, from a least-squares fit to the wanted one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arriero.cost.scaling.law import Floats, ParametricLaw
from arriero.cost.scaling.minimise import Numbers, minimise
from arriero.cost.scaling.runs import Runs
from arriero.errors import ArrieroError

DELTA = 1e-3
"""Of the Huber loss, in logarithms of the loss: deviations below 0.1 % count squared, larger ones by their size."""
UNKNOWNS = 5
FEWEST = UNKNOWNS + 1
_EXPONENTS = np.linspace(0.06, 1.5, 13)
_STARTS = 24
_WIDER = (1.0, 0.03, 0.005)
"""Deltas before the wanted one. The first is least squares."""
_LEAST = 1e-6
"""A term that the linear problem would rather have below zero starts with this."""


@dataclass(frozen=True)
class Fit:
    """A law fitted to runs.

    Attributes:
        residuals: ln(measured) - ln(law) of each run [n].
        objective: the summed Huber losses at the fit.
    """

    law: ParametricLaw
    runs: Runs
    residuals: Floats
    objective: float
    delta: float

    @property
    def scatter(self) -> float:
        """Standard deviation of a run about the law, as a share of the loss: residuals over n - 5 degrees of freedom."""
        return float(np.sqrt(np.sum(self.residuals**2) / (len(self.runs) - UNKNOWNS)))


@dataclass(frozen=True)
class Laws:
    """Many laws at once, each figure [S]; an exponent may be below 0 here, where resampled runs would have it so.

    Attributes:
        a, b, e: logarithms of the three terms at the runs' mean ln N and ln D, which are ``centre``.
    """

    a: Floats
    b: Floats
    e: Floats
    alpha: Floats
    beta: Floats
    centre: tuple[float, float]

    def loss(self, parameters: float, tokens: float) -> Floats:
        """Nats a token of one model under each law [S]."""
        n, d = np.log(parameters) - self.centre[0], np.log(tokens) - self.centre[1]
        with np.errstate(over="ignore"):
            return np.asarray(
                np.exp(self.e) + np.exp(self.a - self.alpha * n) + np.exp(self.b - self.beta * d)
            )

    def figures(self) -> dict[str, Floats]:
        """E, A, B, alpha and beta of each law; a wild draw's A or B may be infinite."""
        with np.errstate(over="ignore"):
            return {
                "E": np.exp(self.e), "A": np.exp(self.a + self.alpha * self.centre[0]),
                "B": np.exp(self.b + self.beta * self.centre[1]), "alpha": self.alpha, "beta": self.beta,
            }  # fmt: skip


def fit_law(runs: Runs, *, delta: float = DELTA, name: str = "own fit") -> Fit:
    """The law that the runs follow best.

    Raises:
        ArrieroError: too few runs, sizes or token counts to tell the law's five unknowns.
    """
    check_runs(runs)
    if not delta > 0:
        raise ArrieroError(f"delta of the Huber loss should be above 0, not {delta:g}")
    problem = _Problem(runs)
    x, value = problem.descend(problem.starts(), delta)
    best = int(np.argmin(value))
    return _finished(problem, x[best], float(value[best]), runs, delta, name)


def refit(found: Fit, *, losses: Floats | None = None, weights: Floats | None = None) -> Laws:
    """The fit made again from its own place, for a bootstrap.

    Args:
        losses: [S, n], each row in place of the runs' losses. weights: [S, n], how often each run counts.
    """
    goal = None if losses is None else np.log(losses)
    problem = _Problem(found.runs, goal, weights)
    draws = len(losses) if losses is not None else len(weights) if weights is not None else 1
    x, _ = problem.descend(np.tile(problem.place(found.law), (draws, 1)), found.delta)
    return problem.laws(x)


def check_runs(runs: Runs) -> None:
    """Refuse runs that cannot tell the law's unknowns.

    Raises:
        ArrieroError: fewer than six runs, or fewer than three sizes or token counts among them.
    """
    if len(runs) < FEWEST:
        raise ArrieroError(
            f"{len(runs)} runs cannot tell the law's {UNKNOWNS} unknowns and their noise: give at least {FEWEST}"
        )
    for what, values in (("model sizes", runs.parameters), ("token counts", runs.tokens)):
        different = len(np.unique(np.round(np.log(values), 2)))
        if different < 3:
            raise ArrieroError(
                f"the runs have {different} different {what}; an exponent and a floor need at least three of both"
            )


class _Problem:
    """The objective over x = (a, b, e, alpha, beta), with ln N and ln D from their means."""

    def __init__(self, runs: Runs, goal: Floats | None = None, weights: Floats | None = None) -> None:
        log_n, log_d = np.log(runs.parameters), np.log(runs.tokens)
        self.centre = (float(log_n.mean()), float(log_d.mean()))
        self.n, self.d = log_n - self.centre[0], log_d - self.centre[1]
        self.goal = np.log(runs.losses)[None] if goal is None else goal
        """[1 or S, n]"""
        self.weights = np.ones((1, len(runs))) if weights is None else weights

    def value(self, x: Floats, delta: float, rows: Numbers) -> tuple[Floats, Floats]:
        """Summed Huber losses over delta squared [M], and their gradient [M, 5]."""
        off, shares = self._deviations(x, self.goal if len(self.goal) == 1 else self.goal[rows])
        weights = self.weights if len(self.weights) == 1 else self.weights[rows]
        size = np.abs(off) / delta
        value = (weights * np.where(size <= 1, size**2 / 2, size - 0.5)).sum(axis=1)
        pull = weights * np.clip(off / delta, -1, 1) / delta
        by_term = pull * shares
        gradient = np.stack([*by_term, -by_term[0] * self.n, -by_term[1] * self.d]).sum(axis=2).T
        return value, gradient

    def _deviations(self, x: Floats, goal: Floats) -> tuple[Floats, Floats]:
        """ln(law) - goal [M, n], and each term's share of the law [3, M, n]."""
        a, b, e, alpha, beta = (x[:, i : i + 1] for i in range(UNKNOWNS))
        terms = np.stack([a - alpha * self.n, b - beta * self.d, np.broadcast_to(e, (len(x), len(self.n)))])
        top = terms.max(axis=0)
        shares = np.exp(terms - top)
        total = shares.sum(axis=0)
        return top + np.log(total) - goal, shares / total

    def descend(self, starts: Floats, delta: float) -> tuple[Floats, Floats]:
        """Where the starts come to rest, from least squares by way of larger deltas; the value is the objective's."""
        x, value = starts, np.zeros(len(starts))
        for stage in (*(wide for wide in _WIDER if wide > delta), delta):
            x, value = minimise(lambda at, rows, stage=stage: self.value(at, stage, rows), x)  # type: ignore[misc]
        return x, value * delta**2

    def starts(self) -> Floats:
        """The best of a grid of exponents, with E, A and B from the linear problem that they leave."""
        losses = np.exp(self.goal[0])
        found = []
        for alpha in _EXPONENTS:
            for beta in _EXPONENTS:
                basis = np.stack(
                    [np.exp(-alpha * self.n), np.exp(-beta * self.d), np.ones_like(losses)], axis=1
                )
                linear = np.linalg.lstsq(basis / losses[:, None], np.ones_like(losses), rcond=None)[0]
                found.append([*np.log(np.maximum(linear, _LEAST)), alpha, beta])
        grid = np.asarray(found)
        off, _ = self._deviations(grid, self.goal)
        return np.asarray(grid[np.argsort((off**2).sum(axis=1))[:_STARTS]])

    def place(self, law: ParametricLaw) -> Floats:
        """The law's place among the unknowns [5]."""
        a = np.log(law.A) - law.alpha * self.centre[0]
        b = np.log(law.B) - law.beta * self.centre[1]
        return np.asarray([a, b, np.log(max(law.E, _LEAST)), law.alpha, law.beta])

    def laws(self, x: Floats) -> Laws:
        """The laws at these places [S, 5]."""
        a, b, e, alpha, beta = x.T
        return Laws(a, b, e, alpha, beta, self.centre)


def _finished(problem: _Problem, x: Floats, value: float, runs: Runs, delta: float, name: str) -> Fit:
    found = problem.laws(x[None])
    for exponent, of, what in (("alpha", found.alpha, "larger models"), ("beta", found.beta, "more tokens")):
        if not of[0] > 0:
            raise ArrieroError(
                f"in these runs {what} did not lower the loss ({exponent} comes out as {of[0]:.3g}), so no law can be "
                "told; give runs that differ more, each with a learning rate that suits it"
            )
    E, A, B, alpha, beta = (float(part[0]) for part in found.figures().values())
    law = ParametricLaw(E, A, B, alpha, beta, name)
    residuals = np.log(runs.losses) - np.log(law.loss(runs.parameters, runs.tokens))
    return Fit(law, runs, residuals, value, delta)
