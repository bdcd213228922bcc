"""Tokens that somebody guesses will come next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from arriero.inference.sampler import Distribution

Proposer = Literal["grammar", "prompt", "draft"]
"""Who guesses: the grammar where it leaves one way on, a lookup in prompt and answer, a draft model."""


@dataclass(frozen=True)
class Proposal:
    """A guess at the next tokens of one answer.

    Attributes:
        tokens: the guess; empty: none.
        proposer: who made it.
        strength: how sure its maker is, in its own small whole numbers (prompt lookup: tokens that matched).
        drawn_from: for each token the distribution that it was drawn from; empty where the guess is not random
            (given the tokens before and the request's own draws).
    """

    tokens: list[int] = field(default_factory=list)
    proposer: Proposer = "prompt"
    strength: int = 0
    drawn_from: list[Distribution] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)


NOTHING = Proposal()
