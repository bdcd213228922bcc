"""Prompt lookup: what followed last time when the text read as it does now."""

from __future__ import annotations

from arriero.inference.speculative.proposal import NOTHING, Proposal

SHORTEST = 2
"""Tokens that must agree at least: what follows one token alone is too often something else."""

LONGEST = 16
"""A longer agreement counts as this long."""

CHAIN = 32
"""Earlier places that are looked at, latest first; it bounds the work on text that repeats itself."""


class PromptLookup:
    """Finds the longest end of a sequence that occurred before, and guesses that it goes on as it did then.

    Places are chained by their last ``SHORTEST`` tokens (as LZ77 compressors do), so reading n tokens takes O(n) time and
    memory, and a guess O(CHAIN * LONGEST). Prompt lookup decoding: Saxena, 2023; LLMA: Yang et al., 2023.

    Args:
        ids: the sequence; it is read on from where it was left at each guess, so it may only grow.
    """

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids
        self._read = SHORTEST - 1  # places before this one are in the chains
        self._latest: dict[tuple[int, ...], int] = {}
        self._before: list[int] = [-1] * (
            SHORTEST - 1
        )  # the place before, with the same last tokens; -1: none

    def propose(self, count: int) -> Proposal:
        """At most ``count`` tokens; its strength is how many tokens agreed. The latest of equally long agreements.

        A text that repeats with a period shorter than ``count`` is continued around.
        """
        self._index()
        here = len(self._ids) - 1
        place = self._before[here] if here >= SHORTEST - 1 else -1
        longest, found = 0, -1
        for _ in range(CHAIN):
            if place < 0:
                break
            length = self._agreement(place, here)
            if length > longest:
                longest, found = length, place
            if length == LONGEST:
                break
            place = self._before[place]
        if found < 0 or count < 1:
            return NOTHING
        period = here - found
        following = self._ids[found + 1 : found + 1 + min(count, period)]
        tokens = [following[i % period] for i in range(count)] if count > period else following
        return Proposal(tokens, "prompt", longest)

    def _index(self) -> None:
        latest, before = self._latest, self._before
        new = self._ids[self._read - SHORTEST + 1 :]
        for key in zip(*(new[i:] for i in range(SHORTEST)), strict=False):
            before.append(latest.get(key, -1))
            latest[key] = len(before) - 1
        self._read = max(self._read, len(self._ids))

    def _agreement(self, place: int, here: int) -> int:
        """How many tokens up to ``place`` agree with those up to ``here``."""
        ids, length = self._ids, SHORTEST
        while length < LONGEST and length <= place and ids[place - length] == ids[here - length]:
            length += 1
        return length
