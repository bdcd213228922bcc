"""What a request does to its logits before anything is drawn: penalties, bias, tokens that may not come."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from arriero.inference.request import Sampling
from arriero.inference.sampler import Floats, Ids


class Constraint(Protocol):
    """A grammar's place in one answer (``inference/grammar``)."""

    @property
    def finished(self) -> bool:
        """Whether nothing but the end may come."""
        ...

    @property
    def error(self) -> str | None:
        """Why the answer can neither go on nor end; None while it can."""
        ...

    def mask(self, logits: Floats) -> None:
        """Set the logits of the tokens that may not come to -inf, in place."""
        ...

    def accept(self, token: int) -> None:
        """Take a token that may come."""
        ...

    def fits(self, tokens: list[int]) -> int:
        """How many of the tokens, in a row, may come next."""
        ...

    def forced(self) -> list[int]:
        """Tokens that spell what alone may come next; often none."""
        ...


class Shaper:
    """Keeps count of an answer's tokens, and shapes its next logits.

    Repetition (CTRL, Keskar et al., 2019, section 4.1): positive logits are divided, negative ones multiplied, for
    tokens of prompt and answer. Presence and frequency penalties: OpenAI's, on the answer alone.

    Args:
        sampling: the request's settings.
        prompt: its token ids.
        ends: ids that end the answer; they may not come before ``min_tokens`` tokens are there.
    """

    def __init__(self, sampling: Sampling, prompt: list[int], ends: frozenset[int]) -> None:
        self._sampling = sampling
        self._repeats = sampling.repetition_penalty != 1
        self._counted = sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
        self._seen: Ids = np.unique(np.asarray(prompt if self._repeats else [], dtype=np.int64))
        self._known = set(self._seen.tolist())
        self._ids: Ids = np.zeros(0, np.int64)  # distinct tokens of the answer, and how often each came
        self._times = np.zeros(0)
        self._place: dict[int, int] = {}
        self._bias_ids = np.fromiter(sampling.logit_bias, np.int64)
        self._bias = np.fromiter(sampling.logit_bias.values(), np.float64)
        self._ends = np.fromiter(sorted(ends), np.int64)
        self._length = 0
        self._plain = not (self._repeats or self._counted or len(self._bias_ids))

    def shape(self, logits: Floats, constraint: Constraint | None = None) -> Floats:
        """The logits ``[V]`` to choose from: the very same array where nothing is asked for, else a new one."""
        early = self._length < self._sampling.min_tokens and len(self._ends) > 0
        if self._plain and not early and constraint is None:
            return logits
        shaped = logits.copy()
        self._penalise(shaped)
        shaped[self._bias_ids] += self._bias.astype(shaped.dtype)
        if constraint is not None:
            constraint.mask(shaped)
        if early:
            ends = shaped[self._ends]
            shaped[self._ends] = -np.inf
            if constraint is not None and np.isneginf(shaped.max()):
                shaped[self._ends] = ends  # the grammar lets nothing else come: it has the last word
        return shaped

    def took(self, token: int) -> None:
        """Count a token of the answer."""
        self._length += 1
        if self._repeats and token not in self._known:
            self._known.add(token)
            self._seen = np.append(self._seen, token)
        if self._counted:
            place = self._place.setdefault(token, len(self._place))
            if place == len(self._ids):
                self._ids, self._times = np.append(self._ids, token), np.append(self._times, 0.0)
            self._times[place] += 1

    def _penalise(self, logits: Floats) -> None:
        if self._repeats:
            values, scale = logits[self._seen], self._sampling.repetition_penalty
            logits[self._seen] = np.where(values > 0, values / scale, values * scale)
        if self._counted:
            penalty = self._sampling.presence_penalty + self._sampling.frequency_penalty * self._times
            logits[self._ids] -= penalty.astype(logits.dtype)
