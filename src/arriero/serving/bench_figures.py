"""From the times of single requests to throughput, percentiles and goodput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 99)


@dataclass
class Record:
    """One answered request; seconds on one clock.

    Attributes:
        sent: when it was handed over. tokens: when each generated token came (over HTTP: each piece of text).
        ended: when its end was told. prompt, generated: tokens. cached: of the prompt, those found in the prefix cache;
            None where nobody says. error: why there is no answer. cost: "energy" and "money" as the server told them.
    """

    sent: float
    prompt: int
    tokens: list[float] = field(default_factory=list)
    ended: float = 0.0
    generated: int = 0
    cached: int | None = None
    error: str = ""
    cost: dict[str, Any] | None = None

    @property
    def first(self) -> float | None:
        """Time to the first token (TTFT)."""
        return self.tokens[0] - self.sent if self.tokens else None

    @property
    def per_token(self) -> float | None:
        """Mean time of a token after the first one (TPOT); None for answers of a single token."""
        if self.generated < 2 or not self.tokens:
            return None
        return (self.tokens[-1] - self.tokens[0]) / (self.generated - 1)

    @property
    def whole(self) -> float:
        """Time to the end of the answer."""
        return self.ended - self.sent


@dataclass(frozen=True)
class Goals:
    """What a reader wants, in seconds; None asks for nothing.

    Attributes:
        ttft: to the first token. tpot: for each one after it. e2e: for the whole answer.
    """

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None

    @property
    def any(self) -> bool:
        """Whether anything is asked for."""
        return (self.ttft, self.tpot, self.e2e) != (None, None, None)

    def met(self, record: Record) -> bool:
        """Whether one answer was as wanted. An answer of one token has no time per token, and so meets that goal."""
        if record.error or record.first is None:
            return False
        found = ((self.ttft, record.first), (self.tpot, record.per_token), (self.e2e, record.whole))
        return all(goal is None or value is None or value <= goal for goal, value in found)


def summary(records: Sequence[Record], seconds: float, goals: Goals) -> dict[str, Any]:
    """The figures of one level.

    Args:
        seconds: from the first request's start to the last one's end.
    """
    good = [r for r in records if not r.error]
    generated, prompt = sum(r.generated for r in good), sum(r.prompt for r in good)
    cached = [r.cached for r in good if r.cached is not None]
    gaps = [gap for r in good for gap in np.diff(r.tokens)]
    met = sum(goals.met(r) for r in records)
    return {
        "requests": len(good),
        "failed": len(records) - len(good),
        "first_error": next((r.error for r in records if r.error), None),
        "seconds": seconds,
        "prompt_tokens": prompt,
        "cached_tokens": sum(cached) if cached else None,
        "generated_tokens": generated,
        "requests_per_s": len(good) / seconds,
        "output_tokens_per_s": generated / seconds,
        "total_tokens_per_s": (prompt + generated) / seconds,
        "ttft_s": percentiles([r.first for r in good if r.first is not None]),
        "tpot_s": percentiles([r.per_token for r in good if r.per_token is not None]),
        "itl_s": percentiles(gaps),
        "e2e_s": percentiles([r.whole for r in good]),
        "goodput": {"share": met / len(records), "requests_per_s": met / seconds} if goals.any and records else None,
    }  # fmt: skip


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and percentiles (linear between ranks); None where there is nothing to rank."""
    if not values:
        return None
    ranked = np.percentile(values, PERCENTILES)
    return {"mean": float(np.mean(values))} | {
        f"p{p}": float(v) for p, v in zip(PERCENTILES, ranked, strict=True)
    }
