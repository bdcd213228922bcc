"""What a search for a mixture found: `mixture.json` of its artifact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from arriero.evaluation.mixture_fit import (
    MixtureLaw,
    best_shares,
    bootstrap_mixture,
    fit_mixture,
    left_out_errors,
    prediction_errors,
)

MIXTURE_FILE = "mixture.json"
_REFITTED = 100
"""Draws whose own best shares are looked for: they tell how sure the shares are."""
Array = NDArray[np.float64]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Record):
    value: float
    low: float
    high: float


class Proxy(_Record):
    """A trained proxy: its shares, and its held-out losses in nats a token, by source."""

    name: str
    shares: dict[str, float]
    losses: dict[str, float]


class MixtureResult(_Record):
    proxies: list[Proxy]
    weights: dict[str, float]
    """Of the held-out losses in what is made small; they add up to 1."""
    floor: dict[str, float]
    slope: dict[str, dict[str, float]]
    """The law: loss of a held-out source = floor + exp(sum of slope * share)."""
    left_out_error: float | None
    """Root mean square of predictions of each run by the law of the others, nats; None without a run to spare."""
    spread: float
    """Standard deviation of the losses over the runs: an error as large says that the law explains nothing."""
    shares: dict[str, Interval]
    losses: dict[str, Interval]
    """Predicted at the proposed shares."""
    best_tried: str
    gain: Interval
    """Weighted loss that the best proxy came to, minus that which is predicted of a proxy with the proposed shares; the
    interval is that of a single run, with the law's error on runs that it has not seen."""
    surely_better: float
    """Share of the drawn runs with the proposed shares that are better than the best proxy."""
    confidence: float
    draws: int

    @property
    def explains(self) -> bool:
        """Whether the law predicts runs that it has not seen better than their mean does."""
        return self.left_out_error is None or self.left_out_error < self.spread

    def lines(self) -> list[str]:
        """For reading; the first can be pasted into the settings of the stage ``mix``."""
        weights = ", ".join(f"{name}: {found.value:.3f}" for name, found in self.shares.items())
        lines = [f"proposed weights: {{{weights}}}"]
        for name, found in self.shares.items():
            loss = f"; its loss {self.losses[name].value:.3f} nats a token" if name in self.losses else ""
            lines.append(f"{name}: {found.value:.1%} ({found.low:.1%}-{found.high:.1%}){loss}")
        lines.append(
            f"expected {self.gain.value:.4f} nats better than the best proxy, '{self.best_tried}' ({self.gain.low:.4f} to"
            f" {self.gain.high:.4f}); better in {self.surely_better:.0%} of {self.draws} drawn runs"
        )
        if self.left_out_error is None:
            lines.append("no run is left to test the law on: train one or two proxies more")
        else:
            lines.append(
                f"runs left out are predicted to {self.left_out_error:.4f} nats; they vary by {self.spread:.4f}"
            )
        if not self.explains:
            lines.append("the law explains nothing here: vary the mixtures more, or train the proxies longer")
        return lines


def search(
    proxies: Sequence[Proxy],
    weights: dict[str, float],
    *,
    outside: bool,
    draws: int,
    confidence: float,
    seed: int,
) -> MixtureResult:
    """Fit the law and find the best shares, by default among those between the smallest and largest that were tried.

    Raises:
        ArrieroError: the proxies cannot tell a law.
    """
    names, held = list(proxies[0].shares), list(proxies[0].losses)
    shares = np.array([[proxy.shares[name] for name in names] for proxy in proxies])
    losses = np.array([[proxy.losses[name] for name in held] for proxy in proxies])
    weight = np.array([weights[name] for name in held])
    weight /= weight.sum()
    law = fit_mixture(shares, losses)
    low, high = (
        (np.zeros(len(names)), np.ones(len(names))) if outside else (shares.min(axis=0), shares.max(axis=0))
    )
    best = best_shares(law, weight, low, high)
    drawn = bootstrap_mixture(law, shares, losses, draws, seed)
    others = np.stack([best_shares(one, weight, low, high) for one in drawn[:_REFITTED]])
    tried = int(np.argmin(losses @ weight))
    reached = float(losses[tried] @ weight)
    gains = np.array([reached - weight @ one.losses(best) for one in drawn])
    own = prediction_errors(law, shares, losses) @ weight
    gains -= own[np.random.Generator(np.random.Philox(seed + 1)).integers(0, len(own), len(gains))]
    errors = left_out_errors(shares, losses)
    tail = (1 - confidence) / 2
    at_best = np.stack([one.losses(best) for one in drawn])
    return MixtureResult(
        proxies=list(proxies), weights=dict(zip(held, weight.tolist(), strict=True)),
        floor=dict(zip(held, law.floor.tolist(), strict=True)), slope=_table(law, names, held),
        left_out_error=None if errors is None else float(np.sqrt((errors**2).mean())),
        spread=float(np.sqrt(losses.var(axis=0, ddof=1).mean())),
        shares=_intervals(names, best, others, tail), losses=_intervals(held, law.losses(best), at_best, tail),
        best_tried=proxies[tried].name,
        gain=_interval(reached - float(weight @ law.losses(best)), gains, tail),
        surely_better=float((gains > 0).mean()), confidence=confidence, draws=draws,
    )  # fmt: skip


def _table(law: MixtureLaw, names: Sequence[str], held: Sequence[str]) -> dict[str, dict[str, float]]:
    return {
        one: dict(zip(names, row.tolist(), strict=True)) for one, row in zip(held, law.slope, strict=True)
    }


def _intervals(names: Sequence[str], values: Array, drawn: Array, tail: float) -> dict[str, Interval]:
    return {name: _interval(float(values[n]), drawn[:, n], tail) for n, name in enumerate(names)}


def _interval(value: float, drawn: Array, tail: float) -> Interval:
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))
