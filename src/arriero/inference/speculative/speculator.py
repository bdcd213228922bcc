"""Guessing for the engine's running answers: who guesses, how far, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from arriero.inference.speculative.pays import Pays, Rate
from arriero.inference.speculative.proposal import NOTHING, Proposal, Proposer
from arriero.inference.speculative.proposers import PromptLookup

if TYPE_CHECKING:
    from arriero.inference.sequence import Sequence as Answer
    from arriero.inference.speculative.draft import DraftModel


PROPOSERS: tuple[Proposer, ...] = ("grammar", "prompt", "draft")


@dataclass
class _State:
    """What is known of one answer's guesses."""

    lookup: PromptLookup
    own: dict[Proposer, Rate] = field(default_factory=lambda: {p: Rate() for p in PROPOSERS})


@dataclass
class _Option:
    """What could be guessed for an answer now: by whom, how many tokens, how sure; ``found`` has a lookup's tokens."""

    proposer: Proposer = "prompt"
    chance: float = 0.0
    length: int = 0
    found: Proposal = NOTHING


class Speculator:
    """What an engine needs of speculation: :meth:`propose` before a step, :meth:`observe` after it.

    Args:
        draft: the draft model, where there is one.
        pays: chooses how far to guess.
        clock: seconds, for the cost of steps.
    """

    def __init__(
        self,
        draft: DraftModel | None = None,
        pays: Pays | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.draft = draft
        self.pays = Pays() if pays is None else pays
        self._clock = clock
        self._states: dict[Answer, _State] = {}
        self._options: dict[Answer, _Option] = {}
        self._began = self._drafted = 0.0
        self._depth = 0
        self._read = False

    def propose(self, answers: Sequence[Answer], room: int) -> None:
        """Set every answer's ``proposal``, often to nothing.

        Args:
            answers: all that take a token in this step.
            room: most tokens to guess in all.
        """
        self._began, self._drafted, self._depth, self._read = self._clock(), 0.0, 0, False
        self._options = {}
        for answer in answers:
            answer.proposal = NOTHING
        willing = [a for a in answers if a.request.speculative != "off" and a.room > 0]
        if not willing or not self.pays.wanted(len(answers)):
            return
        self._options = {a: self._option(a) for a in willing}
        options = [self._options.get(a, _Option()) for a in answers]
        lengths = _fit(self.pays.plan([(o.chance, o.length, o.proposer) for o in options]), room)
        for answer, option, length in zip(answers, options, lengths, strict=True):
            answer.proposal = (
                replace(option.found, tokens=option.found.tokens[:length]) if length else NOTHING
            )
        drafted = [n if o.proposer == "draft" else 0 for o, n in zip(options, lengths, strict=True)]
        if self.draft is not None and any(drafted):
            self._ask_draft(self.draft, list(answers), drafted)

    def observe(self, gains: Sequence[tuple[Answer, int, int]], *, plain: bool) -> None:
        """Learn from the step that :meth:`propose` began.

        Args:
            gains: of every answer: itself, tokens that were guessed and checked, tokens that it gained.
            plain: whether the step did nothing else (no prompt was read), so that its time says what a step costs.
        """
        seconds = self._clock() - self._began
        for answer, guessed, gained in gains:
            option = self._options.get(answer)
            if option is None or not option.length:
                continue
            accepted = max(0, min(gained - 1, guessed))
            self.pays.note_guess(option.proposer, option.found.strength, guessed, accepted)
            if guessed and answer in self._states:
                self._states[answer].own[option.proposer].add(
                    accepted, min(accepted + 1, guessed), memory=0.9
                )
        if plain and gains and not self._read:
            rows = len(gains) + sum(guessed for _, guessed, _ in gains)
            self.pays.note_step(
                len(gains), rows, sum(gained for *_, gained in gains), seconds,
                draft_seconds=self._drafted, depth=self._depth,
            )  # fmt: skip

    def release(self, answer: Answer) -> None:
        """Forget an answer that has ended or lost its place."""
        self._states.pop(answer, None)
        if self.draft is not None:
            self.draft.release(answer)

    def _option(self, answer: Answer) -> _Option:
        """The most promising of the guesses that the request allows."""
        state = self._states.get(answer)
        if state is None:
            state = self._states[answer] = _State(PromptLookup(answer.ids))
        most, wish = min(self.pays.most, answer.room), answer.request.speculative
        found = [_forced(answer, most)]
        if wish != "draft":
            found.append(_allowed(answer, state.lookup.propose(most)))
        options = [
            _Option(p.proposer, self.pays.chance(p.proposer, p.strength, state.own[p.proposer]), len(p), p)
            for p in found
            if len(p)
        ]
        if wish != "prompt" and self.draft is not None:
            options.append(_Option("draft", self.pays.chance("draft", 0, state.own["draft"]), most))
        return max(options, key=lambda option: option.chance, default=_Option())

    def _ask_draft(self, draft: DraftModel, answers: list[Answer], lengths: list[int]) -> None:
        began = self._clock()
        made = draft.propose(answers, lengths)
        for answer, length, proposal in zip(answers, lengths, made, strict=True):
            if length:
                answer.proposal = proposal
        self._depth = max(len(p) for p in made)
        self._drafted, self._read = self._clock() - began, draft.has_read


def _forced(answer: Answer, most: int) -> Proposal:
    """What the answer's grammar leaves no choice about."""
    if answer.constraint is None:
        return NOTHING
    return Proposal(answer.constraint.forced()[:most], "grammar")


def _allowed(answer: Answer, proposal: Proposal) -> Proposal:
    """The guess as far as the answer's grammar lets it come."""
    if answer.constraint is None or not len(proposal):
        return proposal
    return replace(proposal, tokens=proposal.tokens[: answer.constraint.fits(proposal.tokens)])


def _fit(lengths: list[int], room: int) -> list[int]:
    """Shorten the longest guesses until all of them fit."""
    excess = sum(lengths) - room
    while excess > 0:
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        lengths[longest] -= 1
        excess -= 1
    return lengths
