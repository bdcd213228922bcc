"""A small model that guesses what the large one will say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arriero.errors import ArrieroError
from arriero.inference.kv_pool import KVPool, blocks_of
from arriero.inference.rows import Rows, Runner
from arriero.inference.sampler import Distribution, Floats, distribution, uniform
from arriero.inference.speculative.proposal import NOTHING, Proposal
from arriero.inference.speculative.verify import DRAFT

if TYPE_CHECKING:
    from pathlib import Path

    from arriero.inference.sequence import Sequence
    from arriero.models.decoder import Decoder
    from arriero.tokenization.tokenizer import Tokenizer

CATCH_UP = 512
"""Most rows of a step that the draft model spends on tokens it has not read yet."""


@dataclass
class _Place:
    """What the draft model has stored of one sequence: its first ``sure`` tokens, then the ``guessed``."""

    blocks: list[int] = field(default_factory=list)
    sure: int = 0
    guessed: list[int] = field(default_factory=list)

    def settle(self, ids: list[int]) -> None:
        """Keep of the guessed tokens those that came true; the last of ``ids`` is always computed anew."""
        self.sure = min(self.sure, len(ids) - 1)
        for token in self.guessed:
            if self.sure >= len(ids) - 1 or ids[self.sure] != token:
                break
            self.sure += 1
        self.guessed = []


@dataclass
class _Draft:
    """A guess in the making."""

    sequence: Sequence
    place: _Place
    length: int
    tokens: list[int] = field(default_factory=list)
    drawn_from: list[Distribution] = field(default_factory=list)


class DraftModel:
    """Guesses for many sequences at a time, with a pool and a runner of its own.

    For a request with a seed, and for a greedy one, the guess is no draw (see ``speculative/verify.py``); for others it
    is drawn from the draft's own distribution under the request's settings, penalties and grammar aside.

    Args:
        runner: computes the draft's rows into ``pool``.
        vocabulary: ids that may be guessed.
        context_length: most tokens that the draft can see; longer sequences get no guess.

    Attributes:
        has_read: whether the last guess took more than a step by step: a prompt was read.
    """

    def __init__(self, runner: Runner, pool: KVPool, vocabulary: int, context_length: int) -> None:
        self._runner, self.pool = runner, pool
        self._vocabulary, self._context_length = vocabulary, context_length
        self._places: dict[Sequence, _Place] = {}
        self.has_read = False

    def propose(self, sequences: list[Sequence], lengths: list[int]) -> list[Proposal]:
        """A guess of at most so many tokens for each sequence; none where the draft is behind or has no room."""
        for gone in self._places.keys() - set(sequences):
            self.release(gone)
        wanted = [(s, n) for s, n in zip(sequences, lengths, strict=True) if n > 0]
        drafts = self._caught_up([draft for s, n in wanted if (draft := self._begin(s, n)) is not None])
        active = drafts
        while active:
            active = self._advance(active)
        made = {d.sequence: Proposal(d.tokens, "draft", 0, d.drawn_from) for d in drafts}
        return [made.get(s, NOTHING) for s in sequences]

    def release(self, sequence: Sequence) -> None:
        """Give back what is stored of a sequence."""
        place = self._places.pop(sequence, None)
        if place is not None:
            self.pool.release(place.blocks)

    def _begin(self, sequence: Sequence, length: int) -> _Draft | None:
        """Settle what came true, and take the blocks for the guess."""
        place = self._places.setdefault(sequence, _Place())
        place.settle(sequence.ids)
        length = min(length, self._context_length - len(sequence.ids))
        missing = blocks_of(len(sequence.ids) + length) - len(place.blocks)
        if length < 1:
            return None
        if missing > 0:
            more = self.pool.allocate(missing, place.blocks[-1] if place.blocks else None)
            if more is None:
                return None
            place.blocks += more
        return _Draft(sequence, place, length)

    def _caught_up(self, drafts: list[_Draft]) -> list[_Draft]:
        """Read long stretches of what the draft has not seen; those that are ready to guess."""
        left, rows = CATCH_UP, Rows()
        for draft in drafts:
            ids, place = draft.sequence.ids, draft.place
            behind = ids[place.sure : min(len(ids) - 1, place.sure + left)]
            if len(ids) - 1 - place.sure > 1 and behind:  # a single one is read together with the next
                rows.add(behind, place.sure, place.blocks, [])
                place.sure += len(behind)
                left -= len(behind)
        self.has_read = bool(rows.ids)
        if rows.ids:
            rows.wanted = [len(rows) - 1]  # runners are asked for one row at least
            self._runner.run(rows)
        return [d for d in drafts if len(d.sequence.ids) - 1 - d.place.sure <= 1]

    def _advance(self, drafts: list[_Draft]) -> list[_Draft]:
        """Guess one token more for each; those that want another."""
        rows = Rows()
        for draft in drafts:
            place = draft.place
            stored = place.sure + len(place.guessed)
            text = draft.sequence.ids + draft.tokens
            new = text[stored:]
            rows.add(new, stored, place.blocks, [len(new) - 1])
            known = len(draft.sequence.ids)
            place.sure, place.guessed = known, draft.tokens.copy()
        logits = self._runner.run(rows)[:, : self._vocabulary].cpu().numpy()
        return [d for d, row in zip(drafts, logits, strict=True) if self._guess(d, row)]

    def _guess(self, draft: _Draft, logits: Floats) -> bool:
        """Choose the next guessed token; whether there shall be another."""
        sequence, sampling = draft.sequence, draft.sequence.sampling
        token = int(logits.argmax())
        if not math.isfinite(logits[token]):
            return False
        if sampling.temperature > 0 and sampling.seed is None:
            drawn_from = distribution(logits, sampling)
            position = len(sequence.ids) + len(draft.tokens)
            token = drawn_from.draw(uniform(sequence.seed, position, sequence.index, DRAFT))
            draft.drawn_from.append(drawn_from)
        draft.tokens.append(token)
        return len(draft.tokens) < draft.length


def check_same_tokens(target: Tokenizer, draft: Tokenizer) -> None:
    """Refuse a draft model that means other things by the target's token ids.

    Raises:
        ArrieroError: with the first difference.
    """
    if target.vocab_size != draft.vocab_size:
        raise ArrieroError(
            f"the draft model's tokenizer has {draft.vocab_size:,} ids, the model's {target.vocab_size:,}: "
            "a draft model must share the model's tokenizer"
        )
    for i in range(target.vocab_size):
        if target.token_bytes(i) != draft.token_bytes(i):
            raise ArrieroError(
                f"token id {i} is {target.token_bytes(i)!r} to the model and {draft.token_bytes(i)!r} to the draft "
                "model: a draft model must share the model's tokenizer"
            )
    if target.special_ids != draft.special_ids:
        raise ArrieroError(
            "the draft model's special tokens differ from the model's: it must share the tokenizer"
        )


def load_draft(folder: Path, tokenizer: Tokenizer, device: str = "cpu") -> Decoder:
    """A draft model from a folder or a GGUF file, for a model with ``tokenizer``.

    Raises:
        ArrieroError: there is no model, or its tokens are not the model's.
    """
    from arriero.models.checkpoint import load_decoder
    from arriero.tokenization.load import load_tokenizer

    check_same_tokens(tokenizer, load_tokenizer(folder))
    return load_decoder(folder, device=device)
