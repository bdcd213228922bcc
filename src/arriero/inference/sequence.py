"""One request on its way through the engine."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from arriero.inference.kv_cache import Lease
from arriero.inference.request import Event, FinishReason, Request, RequestError
from arriero.inference.sampler import Floats, best, choose, log_probabilities
from arriero.inference.stopping import StopMatcher
from arriero.tokenization.stream import StreamDecoder

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer


class Sequence:
    """State of a running request: its tokens, its place in the pool, the text that is not out yet."""

    def __init__(
        self,
        request_id: int,
        request: Request,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        max_tokens: int,
    ) -> None:
        self.id = request_id
        self.sampling = request.sampling
        self.ids = list(request.prompt)
        self.prompt_length = len(request.prompt)
        self.max_tokens = max_tokens
        self.lease: Lease | None = None
        seed = request.sampling.seed
        self._seed = secrets.randbits(64) if seed is None else seed
        self._end_ids = frozenset() if request.sampling.ignore_end else end_ids
        self._prompt_set = set(request.prompt) if request.sampling.repetition_penalty != 1 else set()
        self._counts: Counter[int] = Counter()
        self._decoder = StreamDecoder(tokenizer)
        self._stops = StopMatcher(request.sampling.stop)

    @property
    def reserved(self) -> int:
        """Token places that the request may need: prompt and whole answer."""
        return self.prompt_length + self.max_tokens

    def accept(self, logits: Floats) -> Event:
        """Choose the next token from its logits ``[V]``, take it, and tell what came of it."""
        token = choose(logits, self.sampling, self._seed, len(self.ids), self._prompt_set, self._counts)
        self.ids.append(token)
        self._counts[token] += 1
        text, reason = self._text_of(token)
        if self.sampling.logprobs is None:
            return Event(self.id, token, text, finish_reason=reason)
        logprobs = log_probabilities(logits)
        top = best(logprobs, self.sampling.logprobs)
        return Event(self.id, token, text, float(logprobs[token]), top, reason)

    def _text_of(self, token: int) -> tuple[str, FinishReason | None]:
        """The text that the token lets out, and why the answer ends with it, if it does."""
        if token in self._end_ids:
            return self._rest(), "stop"
        text, stopped = self._stops.push(self._decoder.push(token))
        if stopped:
            return text, "stop"
        if len(self.ids) - self.prompt_length >= self.max_tokens:
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
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise RequestError(
            f"the prompt holds token id {int(ids.max())}, the model's ids go from 0 to {vocab_size - 1}",
            param="prompt",
            code="invalid_token",
        )
