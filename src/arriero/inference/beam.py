"""Beam search over any network that gives log-probabilities of the next token, one step at a time.

A step function is called with the tokens that its rows just took and, for each row, which row of the call before it
continues. So the network may keep what it likes of each row (keys and values, hidden states) and is told how to
put it in order; rows that are no longer needed simply stop being continued.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.models.seq2seq import Seq2Seq

Step = Callable[[Tensor, Tensor | None], Tensor]
"""(tokens int64 [R], parents int64 [R] or None in the first call) -> log-probabilities of the next token [R, V]."""


@dataclass(frozen=True)
class BeamSettings:
    """How to search.

    Attributes:
        beams: hypotheses kept; 1 is greedy.
        length_penalty: a finished hypothesis of n tokens, its end token counted, scores log p over a penalty that grows
            with n: 0 is plain log p, more favours long ones.
        penalty: ``power``: n^length_penalty, as Hugging Face and fairseq have it; ``gnmt``: ((5 + n) / 6)^length_penalty
            (Wu et al., arXiv 1609.08144, equation 14; the original Transformer: 4 beams, 0.6).
        early_stopping: True: stop as soon as ``beams`` hypotheses are finished. False: go on while the best open one
            would still enter at its present length. "never": go on while any could enter at any length up to
            ``max_tokens``, so that stopping never changes the result.
        max_tokens: longest hypothesis; one that was cut there counts as finished.
    """

    beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    max_tokens: int = 128
    penalty: Literal["power", "gnmt"] = "power"

    def __post_init__(self) -> None:
        if self.beams < 1 or self.max_tokens < 1:
            raise ArrieroError("beam search needs at least one beam and one token")

    def score(self, log_prob: float, length: int) -> float:
        """The figure by which finished hypotheses are compared."""
        base = length if self.penalty == "power" else (5 + length) / 6
        return log_prob / base**self.length_penalty


@dataclass(frozen=True)
class Hypothesis:
    """``ids`` without what the search began with, with the end token unless it was cut; ``score`` as BeamSettings says."""

    ids: tuple[int, ...]
    log_prob: float
    score: float


@dataclass
class _Search:
    """One input's hypotheses: those that go on, best first, and the finished ones, best first."""

    settings: BeamSettings
    eos: frozenset[int]
    open: list[tuple[float, tuple[int, ...]]] = field(default_factory=lambda: [(0.0, ())])
    finished: list[Hypothesis] = field(default_factory=list)
    done: bool = False

    def extend(self, candidates: Sequence[tuple[float, int, int]]) -> list[int]:
        """Take the next tokens; returns which open row each of the new open rows continues.

        Args:
            candidates: (log-probability of the whole, open row, token), best first; as many as any choice needs.
        """
        beams = self.settings.beams
        kept: list[tuple[float, tuple[int, ...]]] = []
        parents: list[int] = []
        for place, (log_prob, row, token) in enumerate(candidates):
            ids = (*self.open[row][1], token)
            if token in self.eos or len(ids) == self.settings.max_tokens:
                if place < beams:  # worse ones are only here so that enough open ones remain
                    self.finished.append(Hypothesis(ids, log_prob, self.settings.score(log_prob, len(ids))))
            elif len(kept) < beams:
                kept.append((log_prob, ids))
                parents.append(row)
        self.finished = sorted(self.finished, key=lambda found: -found.score)[:beams]
        self.open, self.done = kept, self._is_done(kept)
        return [] if self.done else parents

    def _is_done(self, open_rows: list[tuple[float, tuple[int, ...]]]) -> bool:
        settings = self.settings
        if not open_rows:
            return True
        if len(self.finished) < settings.beams:
            return False
        if settings.early_stopping is True or settings.beams == 1:
            return True
        log_prob, ids = open_rows[0]
        longest = settings.early_stopping == "never" and settings.length_penalty > 0
        length = settings.max_tokens if longest else len(ids)
        return settings.score(log_prob, length) <= self.finished[-1].score


@torch.inference_mode()
def beam_search(
    step: Step, start_ids: Sequence[int], eos_ids: int | Sequence[int], settings: BeamSettings
) -> list[list[Hypothesis]]:
    """Search from each of the starts; every input is searched on its own, whatever is beside it in the batch.

    Args:
        step: the network. Its first call has one row for each start.
        start_ids: the first token of each input, given to the network and no part of the hypotheses.
        eos_ids: a hypothesis ends with any of these.

    Returns:
        for each input its finished hypotheses, best first, ``settings.beams`` at most.
    """
    eos = frozenset([eos_ids] if isinstance(eos_ids, int) else eos_ids)
    searches = [_Search(settings, eos) for _ in start_ids]
    running = searches
    tokens, parents = torch.tensor(list(start_ids), dtype=torch.int64), None
    while running:
        log_probs = step(tokens, parents).double()
        tokens_taken: list[int] = []
        rows_taken: list[int] = []
        first = 0
        for search in running:
            last = first + len(search.open)
            local = search.extend(_best(log_probs[first:last], search, eos))
            rows_taken += [first + row for row in local]
            tokens_taken += [ids[-1] for _, ids in search.open] if local else []
            first = last
        running = [search for search in running if not search.done]
        device = log_probs.device
        tokens = torch.tensor(tokens_taken, dtype=torch.int64, device=device)
        parents = torch.tensor(rows_taken, dtype=torch.int64, device=device)
    return [search.finished for search in searches]


def _best(log_probs: Tensor, search: _Search, eos: frozenset[int]) -> list[tuple[float, int, int]]:
    """The best continuations of one input's open rows, log_probs [rows, V], impossible ones left out.

    ``beams`` of them may end, one for each row and end token; the others go on. So (1 + end tokens) x beams are
    enough for ``beams`` open rows to remain.
    """
    vocab_size = log_probs.shape[1]
    before = torch.tensor(
        [log_prob for log_prob, _ in search.open], dtype=torch.float64, device=log_probs.device
    )
    total = (log_probs + before[:, None]).flatten()
    values, places = total.topk(min(len(total), (1 + max(1, len(eos))) * search.settings.beams))
    return [
        (value, place // vocab_size, place % vocab_size)
        for value, place in zip(values.tolist(), places.tolist(), strict=True)
        if value > -torch.inf
    ]


def recomputing(log_probs_of: Callable[[Tensor, Tensor], Tensor], prompts: Tensor | None = None) -> Step:
    """A step function for a network that keeps nothing: every step reads the whole sequence again.

    Args:
        log_probs_of: (ids int64 [R, T], input of each row int64 [R]) -> log-probabilities of the next token [R, V].
        prompts: int64 [N, P]: what stands before each input's start.
    """
    ids = torch.zeros(0, 0, dtype=torch.int64)
    inputs = torch.zeros(0, dtype=torch.int64)

    def step(tokens: Tensor, parents: Tensor | None) -> Tensor:
        nonlocal ids, inputs
        if parents is None:
            inputs = torch.arange(len(tokens))
            ids = torch.zeros(len(tokens), 0, dtype=torch.int64) if prompts is None else prompts
        else:
            inputs, ids = inputs[parents], ids[parents]
        ids = torch.cat([ids, tokens[:, None]], dim=1)
        return log_probs_of(ids, inputs)

    return step


def beam_generate(
    model: Seq2Seq, sources: Sequence[Sequence[int]], settings: BeamSettings | None = None
) -> list[list[Hypothesis]]:
    """Targets of each source, best first: beam search with cached keys and values.

    The number of tokens is bounded by the model's positions too.

    Raises:
        ArrieroError: a source is longer than the model's context, or has an id outside the vocabulary.
    """
    settings = settings or BeamSettings()
    if not sources:
        return []
    config = model.config
    if config.bounded and settings.max_tokens > config.context_length:
        settings = replace(settings, max_tokens=config.context_length)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            step = model.start(sources)
        return beam_search(step, [config.start_id] * len(sources), config.eos_id, settings)
    finally:
        model.train(training)
