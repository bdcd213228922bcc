"""Whether guessing ahead pays, and how far: from what steps cost and how many guesses were right, as measured."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from arriero.inference.sampler import Ids
from arriero.inference.speculative.proposal import Proposer

MOST = 8
"""Most tokens guessed ahead for one answer."""

GAIN = 1.03
"""Expected speed-up below which a step goes without guesses."""

FRESH = 64
"""While guesses pay, one step in so many goes without, so that the cost of a plain step stays known."""

TRIAL = 8
"""Steps of a trial, and steps in a row for which the forecast must want no guesses before they rest."""

JUDGED = 24
"""Steps with guesses after which it is judged whether they pay; fewer are too much a matter of luck."""

PATIENCE = 2
"""Plain steps' worth of time that guesses may cost before it is judged at once that they don't pay."""

FIRST_REST, LONGEST_REST = 64, 4096
"""Steps without guesses after they did not pay; doubled each time up to the second."""

OTHERS = 4
"""Trials of its own that weigh as much for an answer as what all others' guesses were worth."""

TRIAL_LENGTH = 3
"""Tokens guessed for an answer in a trial."""


@dataclass
class Rate:
    """A share of successes, with one success in two trials supposed beforehand; the older the less they count."""

    successes: float = 0.0
    trials: float = 0.0

    @property
    def value(self) -> float:
        """The share."""
        return (self.successes + 1) / (self.trials + 2)

    def add(self, successes: int, trials: int, memory: float = 0.98) -> None:
        """Note how many of some trials succeeded."""
        self.successes = self.successes * memory + successes
        self.trials = self.trials * memory + trials

    def forget(self, memory: float = 0.998) -> None:
        """What has not been tried for long is worth another trial."""
        self.add(0, 0, memory)


@dataclass
class StepCosts:
    """Seconds of a step by how many rows it computes: smoothed readings, straight lines between them.

    Beyond the largest number of rows that was tried a step is taken to cost no more, so that it will be tried; up to
    twice as many at a time, so that no step takes very long for it.
    """

    memory: float = 0.9
    _known: dict[int, float] = field(default_factory=dict)
    _sorted: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    def add(self, rows: int, seconds: float) -> None:
        """Note what a step cost. A reading far above what is known (the machine was busy) counts as thrice that."""
        known = self._known.get(rows)
        self._sorted = None
        self._known[rows] = (
            seconds if known is None else self.memory * known + (1 - self.memory) * min(seconds, 3 * known)
        )

    def known(self, rows: int) -> bool:
        """Whether a step of so many rows was measured."""
        return rows in self._known

    @property
    def reach(self) -> int:
        """Most rows that should be tried."""
        return 2 * max(self._known)

    def seconds(self, rows: int | NDArray[np.int64]) -> NDArray[np.float64]:
        """What steps of so many rows cost, of the shape of ``rows``; there must be a reading."""
        if self._sorted is None:
            pairs = sorted(self._known.items())
            self._sorted = np.array([r for r, _ in pairs]), np.array([s for _, s in pairs])
        return np.asarray(np.interp(rows, *self._sorted))


class Pays:
    """Chooses how many tokens are guessed for each answer of a step.

    A guess of k tokens of which each is right with chance a, given that those before it are, yields a + a^2 + ... + a^k
    tokens more than a plain step and costs k rows more. :meth:`plan` takes the guesses in order of their chance as far
    as tokens a second grow, by the costs and chances seen so far. Beside this forecast the speed-up is measured. Where
    ``JUDGED`` steps by the forecast were not faster than plain ones, or it wants none for ``TRIAL`` steps, guessing rests,
    ever longer, and then tries again with guesses of ``TRIAL_LENGTH``.

    Times are given to it; it reads no clock.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.proposed = 0
        self.accepted = 0
        self.costs = StepCosts()
        self.draft_seconds = 0.0  # of guessing one token further with a draft model
        self._rates: dict[tuple[Proposer, int], Rate] = {}
        # of the steps to judge: seconds that plain ones would have taken for their tokens, and what they took
        self._gained, self._spent = 0.0, 0.0
        self._judged = 0
        self._rest = FIRST_REST
        self._resting = 0
        self._trial = TRIAL
        self._trying = False
        self._declined = 0
        self._since_plain = 0

    @property
    def resting(self) -> bool:
        """Whether guessing is switched off for now."""
        return self._resting > 0

    def chance(self, proposer: Proposer, strength: int, own: Rate) -> float:
        """How often a token guessed so is right, given that those before it are.

        Args:
            own: what the guesses for this answer were worth; the fewer they are, the more all answers' count.
        """
        return (OTHERS * self._rate(proposer, strength).value + own.successes) / (OTHERS + own.trials)

    def wanted(self, answers: int) -> bool:
        """Whether this step should guess at all; call it once a step. ``answers``: how many would take a token."""
        if self._resting:
            self._resting -= 1
            if not self._resting:
                self._trial = TRIAL
            return False
        self._since_plain += 1
        if self._since_plain > FRESH or not self.costs.known(answers):
            self._since_plain = 0
            return False
        return True

    def plan(self, guesses: list[tuple[float, int, Proposer]]) -> list[int]:
        """How many tokens to guess for each answer.

        Args:
            guesses: of each answer: chance of a token, most tokens that can be guessed, and who would guess.
        """
        if self._trial > 0 and any(length for _, length, _ in guesses):
            self._trial -= 1
            self._trying = True
            return [min(length, TRIAL_LENGTH, self.most) for _, length, _ in guesses]
        answer, depth, gain = self._candidates(guesses)
        taken = self._worth(len(guesses), gain, np.array([g[2] == "draft" for g in guesses])[answer] * depth)
        self._declined = self._declined + 1 if len(gain) and not taken else 0
        if self._declined >= TRIAL:
            self._rest_now()
        return np.bincount(answer[:taken], minlength=len(guesses)).tolist()

    def _candidates(self, guesses: list[tuple[float, int, Proposer]]) -> tuple[Ids, Ids, NDArray[np.float64]]:
        """All tokens that could be guessed, most likely first: whose, the how manieth, and its chance to be right."""
        depths = np.arange(1, self.most + 1)
        gains = np.array([g[0] for g in guesses])[:, None] ** depths
        answer, depth = np.nonzero(depths <= np.array([g[1] for g in guesses])[:, None])
        gain = gains[answer, depth]
        order = np.argsort(-gain, kind="stable")
        return (
            answer[order].astype(np.int64),
            depth[order].astype(np.int64) + 1,
            gain[order].astype(np.float64),
        )

    def _worth(self, answers: int, gain: NDArray[np.float64], drafted: Ids) -> int:
        """How many of the candidates give the most tokens a second; 0 unless they gain enough on a plain step.

        Args:
            drafted: for each the tokens that a draft model must go ahead for it.
        """
        able = max(self.costs.reach - answers, 0)
        gain, drafted = gain[:able], drafted[:able]
        if not len(gain):
            return 0
        seconds = self.costs.seconds(answers + np.arange(1, len(gain) + 1))
        seconds = seconds + np.maximum.accumulate(drafted) * self.draft_seconds
        speed = (answers + np.cumsum(gain)) / seconds
        best = int(speed.argmax())
        return best + 1 if speed[best] > GAIN * answers / float(self.costs.seconds(answers)) else 0

    def note_guess(self, proposer: Proposer, strength: int, proposed: int, accepted: int) -> None:
        """Note that of a guess of ``proposed`` tokens the first ``accepted`` were right; or that none was wanted."""
        self.proposed += proposed
        self.accepted += accepted
        rate = self._rate(proposer, strength)
        if proposed:
            rate.add(accepted, min(accepted + 1, proposed))
        else:
            rate.forget()

    def note_step(
        self,
        answers: int,
        rows: int,
        tokens: int,
        seconds: float,
        *,
        draft_seconds: float = 0.0,
        depth: int = 0,
    ) -> None:
        """Note a step that did nothing but take tokens for ``answers`` answers.

        Args:
            rows: how many were computed. tokens: how many the answers gained.
            seconds: of the whole step. draft_seconds: of these, those of a draft model. depth: tokens it guessed ahead.
        """
        if depth:
            known = self.draft_seconds or draft_seconds / depth
            self.draft_seconds = 0.9 * known + 0.1 * min(draft_seconds / depth, 3 * known)
        self.costs.add(rows, seconds - draft_seconds)
        if rows == answers or not self.costs.known(answers):
            return
        plain = float(self.costs.seconds(answers))
        self._gained += tokens / answers * plain
        self._spent += seconds
        self._judged += 1
        if (
            self._judged >= (TRIAL if self._trying else JUDGED)
            or self._spent > self._gained + PATIENCE * plain
        ):
            self._judge()

    def _judge(self) -> None:
        """Rest where the last steps with guesses were not faster than plain ones.

        After a trial, whose length is arbitrary, the forecast has its say first: it knows more now.
        """
        if self._gained >= self._spent:
            self._rest = FIRST_REST
        elif not self._trying:
            self._rest_now()
        self._gained = self._spent = 0.0
        self._judged = self._trial = 0
        self._trying = False

    def _rest_now(self) -> None:
        self._resting, self._rest = self._rest, min(2 * self._rest, LONGEST_REST)
        self._declined = 0

    def _rate(self, proposer: Proposer, strength: int) -> Rate:
        return self._rates.setdefault((proposer, strength.bit_length()), Rate())
