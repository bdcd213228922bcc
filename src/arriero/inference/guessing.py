"""Guessed tokens in the engine's steps: who gets any, and what is learnt from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arriero.errors import ArrieroError
from arriero.inference.memory import make_pool
from arriero.inference.runners import RunnerKind, make_runner
from arriero.inference.scheduler import Piece, Scheduler
from arriero.inference.speculative.draft import DraftModel
from arriero.inference.speculative.speculator import Speculator

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder


def make_speculator(
    draft: Decoder | None, vocabulary: int, max_batch: int, max_tokens: int, runner: RunnerKind
) -> Speculator:
    """A speculator; with a draft model, one that has a pool of its own for ``max_tokens`` tokens.

    Raises:
        ArrieroError: the draft model does not know all the ids that may be generated.
    """
    if draft is None:
        return Speculator()
    if draft.config.vocab_size < vocabulary:
        raise ArrieroError(
            f"the draft model has {draft.config.vocab_size:,} ids, the tokenizer {vocabulary:,}: "
            "a draft model must share the model's tokenizer"
        )
    draft = draft.eval()
    pool = make_pool(draft, max_batch, max_tokens, "auto")
    made = make_runner(runner, draft, pool, None)
    return Speculator(DraftModel(made, pool, vocabulary, draft.config.context_length))


def guess(speculator: Speculator, scheduler: Scheduler, pieces: list[Piece]) -> dict[Piece, int]:
    """Ask for guesses and put them behind the running answers' tokens, as far as the step has room.

    Returns:
        The running answers' pieces and how many tokens each has now.
    """
    answering = [p for p in pieces if p.task.answering]
    left = scheduler.token_budget - sum(p.count for p in pieces)
    speculator.propose([p.task.sequence for p in answering], left)
    for piece in answering:
        sequence = piece.task.sequence
        proposal = sequence.proposal
        scheduler.add_guesses(piece, proposal.tokens, left)
        left -= (count := len(piece.guesses))
        if count < len(proposal):
            sequence.proposal = replace(
                proposal, tokens=proposal.tokens[:count], drawn_from=proposal.drawn_from[:count]
            )
    return {piece: piece.task.length for piece in answering}


def learn(speculator: Speculator, pieces: list[Piece], lengths: dict[Piece, int]) -> None:
    """Tell the speculator what came of a step.

    Args:
        lengths: tokens of each running answer before the step.
    """
    gains = [(p.task.sequence, len(p.guesses), p.task.length - n) for p, n in lengths.items()]
    speculator.observe(gains, plain=len(pieces) == len(lengths))
