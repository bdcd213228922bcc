"""One answer on its way through the engine."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence as Rows
from typing import TYPE_CHECKING

import numpy as np

from arriero.inference.request import (
    Event,
    FinishReason,
    PromptToken,
    Request,
    RequestError,
    Sampling,
    TokenLogprob,
)
from arriero.inference.sampler import Distribution, Floats, best, distribution, log_normaliser, uniform
from arriero.inference.shaping import Constraint, Shaper
from arriero.inference.speculative.proposal import NOTHING, Proposal
from arriero.inference.speculative.verify import keep_or_redraw
from arriero.inference.stopping import StopMatcher
from arriero.tokenization.stream import StreamDecoder

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

NOT_A_NUMBER = "the model's output is not a number (NaN): its weights are damaged or training diverged"
NOTHING_LEFT = "the grammar leaves no token that could come next"


class Sequence:
    """State of a running answer: its tokens, its place in the pool, the text that is not out yet.

    The engine computes logits and calls, for one sequence:

    - :meth:`accept` with the row of its last token; or
    - with ``proposal`` set to a guess of k tokens, :meth:`verify` with the k + 1 rows of its last token and of the
      guess, which may give fewer events than rows: what it stored for the others is void;
    - where ``wants_prompt_logits``, first :meth:`note_prompt` with the rows of the prompt, piece by piece.

    Args:
        request_id: the request's number.
        end_ids: tokens that end an answer, by the tokenizer.
        max_tokens: most tokens of the answer.
        index: which of the request's answers; it has its own stream of draws.
        constraint: the matcher of the request's grammar; it may be set later, before the first token.

    Attributes:
        ids: prompt and answer.
        cached_tokens: how many of the prompt the engine did not have to compute; the first event tells it.
        proposal: the guess that the next :meth:`verify` is about.
        total_logprob: sum of the answer's log-probabilities, kept where ``scored`` is set.
    """

    def __init__(
        self,
        request_id: int,
        request: Request,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        max_tokens: int,
        *,
        index: int = 0,
        constraint: Constraint | None = None,
    ) -> None:
        sampling = request.sampling
        self.id, self.index, self.request, self.sampling = request_id, index, request, sampling
        self.ids = list(request.prompt)
        self.prompt_length = len(request.prompt)
        self.max_tokens = max_tokens
        self.cached_tokens = 0
        self.constraint = constraint
        self.proposal: Proposal = NOTHING
        self.scored = request.answers > request.n
        self.total_logprob = 0.0
        self.seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        self._ends = frozenset(sampling.stop_token_ids) | (frozenset() if sampling.ignore_end else end_ids)
        self._all_ends = end_ids | self._ends
        self._shaper = Shaper(sampling, request.prompt, self._ends)
        self._decoder = StreamDecoder(tokenizer)
        self._stops = StopMatcher(sampling.stop)
        self._prompt_logprobs: list[PromptToken] = []
        self._begun = False

    @property
    def reserved(self) -> int:
        """Token places that the answer may need: prompt and whole answer."""
        return self.prompt_length + self.max_tokens

    @property
    def generated(self) -> int:
        """Tokens of the answer so far."""
        return len(self.ids) - self.prompt_length

    @property
    def room(self) -> int:
        """Most tokens that are worth guessing: with the one that comes anyway they fill the answer."""
        return self.max_tokens - self.generated - 1

    @property
    def mean_logprob(self) -> float:
        """Mean log-probability of the answer's tokens (``scored`` sequences)."""
        return self.total_logprob / max(self.generated, 1)

    # ------------------------------------------------------------ the prompt's log-probabilities

    @property
    def wants_prompt_logits(self) -> bool:
        """Whether the logits of all rows of the prompt are asked for, and not there yet.

        Such a prompt must be computed from its first token: a cache holds keys and values, no logits.
        """
        wanted = self.sampling.prompt_logprobs is not None and self.index == 0
        return wanted and len(self._prompt_logprobs) < self.prompt_length

    def note_prompt(self, logits: Floats, first: int) -> None:
        """Take logits ``[T, V]`` of the tokens at ``first, first + 1 ...``; those of the answer are passed over."""
        if not self._prompt_logprobs:
            self._prompt_logprobs.append(PromptToken(self.ids[0], None))
        count = self.sampling.prompt_logprobs or 0
        for place, row in enumerate(logits, first + 1):
            if place != len(self._prompt_logprobs) or place >= self.prompt_length:
                continue
            normaliser, token = log_normaliser(row), self.ids[place]
            logprob = float(row[token]) - normaliser
            self._prompt_logprobs.append(PromptToken(token, logprob, best(row, count, normaliser)))

    # ------------------------------------------------------------ tokens

    def accept(self, logits: Floats) -> Event:
        """Choose the next token from its logits ``[V]``, take it, and tell what came of it."""
        return self._take(logits, self._choose(logits, None))

    def verify(self, logits: Rows[Floats]) -> list[Event]:
        """Take tokens from logits ``[k + 1, V]`` as long as ``proposal`` guessed them, and one more.

        The last of the events is the first that was not as guessed, or that ends the answer. The guess is used up.
        """
        proposal, self.proposal = self.proposal, NOTHING
        events = []
        for place, row in enumerate(logits):
            guess = proposal.tokens[place] if place < len(proposal) else None
            drawn_from = proposal.drawn_from[place] if place < len(proposal.drawn_from) else None
            token = self._choose(row, guess, drawn_from)
            events.append(self._take(row, token))
            if token is None or token != guess or events[-1].finish_reason is not None:
                break
        return events

    def fail(self, message: str) -> Event:
        """The event that ends the answer with an error."""
        return Event(self.id, None, self._rest(), finish_reason="error", index=self.index, error=message)

    def abort(self) -> Event:
        """The event that ends the answer because nobody wants it any more."""
        return Event(self.id, None, "", finish_reason="abort", index=self.index)

    def _choose(
        self, logits: Floats, guess: int | None, drawn_from: Distribution | None = None
    ) -> int | None:
        """The next token id; None where there are no numbers to choose by."""
        top = int(logits.argmax())  # the place of the first NaN, if there is one
        if not math.isfinite(logits[top]):
            return None
        shaped = self._shaper.shape(logits, self.constraint)
        if shaped is not logits:
            top = int(shaped.argmax())
            if not math.isfinite(shaped[top]):
                return None
        if self.sampling.temperature == 0:
            return top
        target, position = distribution(shaped, self.sampling), len(self.ids)
        if guess is not None and drawn_from is not None:
            return keep_or_redraw(target, guess, drawn_from, self.seed, position, self.index)
        return target.draw(uniform(self.seed, position, self.index))

    def _take(self, logits: Floats, token: int | None) -> Event:
        if token is None:
            return self.fail(self._nothing_left() if math.isfinite(logits.max()) else NOT_A_NUMBER)
        self.ids.append(token)
        self._shaper.took(token)
        text, reason = self._text_of(token)
        cached, prompt = (0, ()) if self._begun else (self.cached_tokens, tuple(self._prompt_logprobs))
        self._begun = True
        logprob, top = self._logprobs(logits, token)
        return Event(
            self.id, token, text, logprob, top, reason,
            index=self.index, cached_tokens=cached, prompt_logprobs=prompt,
        )  # fmt: skip

    def _nothing_left(self) -> str:
        told = None if self.constraint is None else self.constraint.error
        return NOTHING_LEFT if told is None else told

    def _logprobs(self, logits: Floats, token: int) -> tuple[float | None, tuple[TokenLogprob, ...]]:
        count = self.sampling.logprobs
        if count is None and not self.scored:
            return None, ()
        normaliser = log_normaliser(logits)
        logprob = float(logits[token]) - normaliser
        self.total_logprob += logprob
        return (None, ()) if count is None else (logprob, best(logits, count, normaliser))

    # ------------------------------------------------------------ text

    def _text_of(self, token: int) -> tuple[str, FinishReason | None]:
        """The text that the token lets out, and why the answer ends with it, if it does."""
        if token in self._ends:
            return self._rest(), "stop"
        if self.constraint is not None:
            if (
                token in self._all_ends
            ):  # an end that is to be ignored, where the grammar lets nothing else come
                return self._rest(), "stop"
            self.constraint.accept(token)
        armed = self.generated >= self.sampling.min_tokens
        named = self.constraint is not None  # a special token that a grammar asks for is part of what it says
        text, stopped = self._stops.push(self._decoder.push(token, named=named), armed=armed)
        if stopped:
            return text, "stop"
        if self.constraint is not None and self.constraint.finished:
            return text + self._rest(), "stop"
        if self.generated >= self.max_tokens:
            rest, stopped = self._stops.push(self._decoder.finish())
            return text + rest + self._stops.flush(), "stop" if stopped else "length"
        return text, None

    def _rest(self) -> str:
        text, stopped = self._stops.push(self._decoder.finish())
        return text if stopped else text + self._stops.flush()


def check_prompt(prompt: list[int], vocab_size: int) -> None:
    """Refuse an empty prompt and ids that the model does not have.

    Raises:
        RequestError: with what is wrong.
    """
    if not prompt:
        raise RequestError("the prompt is empty", param="prompt", code="empty_prompt")
    ids = np.asarray(prompt)
    wrong = ids[(ids < 0) | (ids >= vocab_size)]
    if len(wrong):
        raise RequestError(
            f"the prompt holds token id {int(wrong[0])}, the model's ids go from 0 to {vocab_size - 1}",
            param="prompt",
            code="invalid_token",
        )


def check_sampling(sampling: Sampling, vocabulary: int) -> None:
    """Refuse settings that name tokens which are never generated.

    Args:
        vocabulary: ids that the tokenizer knows, 0 to ``vocabulary - 1``.

    Raises:
        RequestError: with what is wrong.
    """
    for param, ids in (("logit_bias", sampling.logit_bias), ("stop_token_ids", sampling.stop_token_ids)):
        wrong = next((i for i in ids if not 0 <= i < vocabulary), None)
        if wrong is not None:
            raise RequestError(
                f"{param} names token id {wrong}, the tokenizer's ids go from 0 to {vocabulary - 1}",
                param=param,
                code="invalid_token",
            )
