"""The engine: continuous batching of many requests over one model.

It is a plain object that is stepped by whoever owns it, from one thread: no thread, no event loop and no queue
of its own beyond the waiting requests. The server wraps it in a thread; evaluation and rollouts call
:meth:`Engine.generate`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arriero.artifacts.host import memory_bytes
from arriero.errors import ArrieroError
from arriero.inference.kv_cache import CacheShape, DecodeView, KeyValuePool, Lease, PrefillView, round_up
from arriero.inference.request import Completion, Event, QueueFullError, Request, RequestError
from arriero.inference.sequence import Sequence, check_prompt

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder
    from arriero.tokenization.tokenizer import Tokenizer

POOL_SHARE = 0.25
"""Most of the machine's memory that the pool takes when nobody says how much."""


class Engine:
    """Generates from one decoder.

    Args:
        max_batch: most requests that run at a time.
        max_tokens_total: token places of the key-value pool; by default ``max_batch`` full contexts, or what
            fits into a quarter of the machine's memory when that is less.
        max_waiting: most requests that wait for room before :meth:`submit` refuses.
        prefill_chunk: most prompt tokens that one step computes, so that a long prompt does not hold up others.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        max_batch: int = 8,
        max_tokens_total: int | None = None,
        max_waiting: int = 64,
        prefill_chunk: int = 512,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.context_length = model.config.context_length
        self.max_waiting = max_waiting
        self.prefill_chunk = prefill_chunk
        self.steps = 0
        self.pool = _make_pool(model, max_batch, max_tokens_total)
        self._vocabulary = _shared_vocabulary(model, tokenizer)
        ends = (tokenizer.eos_id, tokenizer.end_of_turn_id)
        self._end_ids = frozenset(i for i in ends if i is not None)
        self._numbers = itertools.count(1)
        self._waiting: deque[Sequence] = deque()
        self._prefilling: deque[Sequence] = deque()
        self._decoding: list[Sequence] = []
        self._prefilled_last = False

    @classmethod
    def load(cls, folder: Path, *, max_batch: int = 8, max_tokens_total: int | None = None) -> Engine:
        """An engine for a decoder: an artifact, a Hugging Face folder, or a GGUF file with its tokenizer in it.

        Raises:
            ArrieroError: there is no model, or one that cannot be read.
        """
        from arriero.models.checkpoint import load_decoder
        from arriero.tokenization.load import load_tokenizer

        if not folder.is_dir() and folder.suffix != ".gguf":
            raise ArrieroError(
                f"{folder} is neither the folder of a model (it holds config.json) nor a GGUF file"
            )
        tokenizer = load_tokenizer(folder)
        return cls(load_decoder(folder), tokenizer, max_batch=max_batch, max_tokens_total=max_tokens_total)

    # ------------------------------------------------------------ requests in and out

    @property
    def running(self) -> int:
        """Requests that have a place in the pool."""
        return len(self._prefilling) + len(self._decoding)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self._prefilling or self._decoding)

    def submit(self, request: Request) -> int:
        """Queue a request; gives its id, which its events carry.

        Raises:
            RequestError: it can never be served: prompt and ``max_tokens`` do not fit the context or the pool.
            QueueFullError: too many are waiting.
        """
        max_tokens = self.check(request)
        if len(self._waiting) >= self.max_waiting:
            raise QueueFullError(
                f"{self.waiting} requests are waiting already, the most allowed: try again later"
            )
        sequence = Sequence(next(self._numbers), request, self.tokenizer, self._end_ids, max_tokens)
        self._waiting.append(sequence)
        return sequence.id

    def check(self, request: Request) -> int:
        """The most tokens that the answer may have.

        Raises:
            RequestError: the request can never be served.
        """
        check_prompt(request.prompt, self.model.config.vocab_size)
        length, wanted = len(request.prompt), request.sampling.max_tokens
        room = min(self.context_length, self.pool.max_tokens)
        what = "context" if room == self.context_length else "key-value pool"
        if length >= room:
            raise RequestError(
                f"the prompt has {length:,} tokens, the {what} holds {room:,}, answer included: shorten the prompt",
                param="messages",
                code="context_length_exceeded",
            )
        if wanted is not None and length + wanted > room:
            raise RequestError(
                f"the prompt's {length:,} tokens and max_tokens {wanted:,} do not fit the {what} of {room:,}: "
                f"ask for at most {room - length:,} tokens",
                param="max_tokens",
                code="context_length_exceeded",
            )
        return room - length if wanted is None else wanted

    def abort(self, request_id: int) -> Event | None:
        """End a request now and free its place. None when it is not there (any more)."""
        for queue in (self._waiting, self._prefilling, self._decoding):
            for sequence in queue:
                if sequence.id == request_id:
                    queue.remove(sequence)
                    self._free(sequence)
                    return Event(request_id, None, "", finish_reason="abort")
        return None

    def abort_all(self) -> list[Event]:
        """End every request."""
        ids = [s.id for queue in (self._waiting, self._prefilling, self._decoding) for s in queue]
        return [event for i in ids if (event := self.abort(i)) is not None]

    # ------------------------------------------------------------ the step

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Do one piece of work: a chunk of one prompt, or one token for every running answer.

        The two take turns, so that a new prompt starts soon and running answers go on meanwhile.

        Raises:
            ArrieroError: the model gives no numbers (NaN); the requests concerned are still there to abort.
        """
        self._admit()
        self.steps += 1
        if self._prefilling and not (self._decoding and self._prefilled_last):
            self._prefilled_last = True
            return self._prefill(self._prefilling[0])
        self._prefilled_last = False
        return self._decode() if self._decoding else []

    def _admit(self) -> None:
        """Give waiting requests a place, first come first served: a big one is never overtaken."""
        while self._waiting:
            lease = self.pool.reserve(self._waiting[0].reserved)
            if lease is None:
                return
            sequence = self._waiting.popleft()
            sequence.lease = lease
            self._prefilling.append(sequence)

    def _prefill(self, sequence: Sequence) -> list[Event]:
        lease = _lease_of(sequence)
        chunk = sequence.ids[lease.length : lease.length + self.prefill_chunk]
        ids = self._tensor([chunk])
        positions = torch.arange(lease.length, lease.length + len(chunk), device=ids.device)[None]
        hidden = self.model.hidden(ids, positions=positions, cache=PrefillView(self.pool, lease, len(chunk)))
        lease.length += len(chunk)
        if lease.length < sequence.prompt_length:
            return []
        self._prefilling.popleft()
        self._decoding.append(sequence)
        return self._accept([sequence], self.model.logits(hidden[:, -1]))

    def _decode(self) -> list[Event]:
        batch = sorted(self._decoding, key=lambda s: _lease_of(s).row)
        leases = [_lease_of(s) for s in batch]
        ids = self._tensor([[s.ids[-1]] for s in batch])
        positions = self._tensor([[lease.length] for lease in leases])
        hidden = self.model.hidden(ids, positions=positions, cache=DecodeView(self.pool, leases))
        for lease in leases:
            lease.length += 1
        return self._accept(batch, self.model.logits(hidden[:, 0]))

    def _accept(self, batch: list[Sequence], logits: Tensor) -> list[Event]:
        """Let every sequence take its token from ``logits [B,V]``; those that end give their place back."""
        rows = logits[:, : self._vocabulary].to("cpu", torch.float64).numpy()
        if torch.isnan(logits).any():
            raise ArrieroError(
                "the model's output is not a number (NaN): its weights are damaged or training diverged"
            )
        events = []
        for sequence, row in zip(batch, rows, strict=True):
            event = sequence.accept(row)
            if event.finish_reason is not None:
                self._decoding.remove(sequence)
                self._free(sequence)
            events.append(event)
        return events

    def _free(self, sequence: Sequence) -> None:
        if sequence.lease is not None:
            self.pool.release(sequence.lease)
            sequence.lease = None

    def _tensor(self, ids: list[list[int]]) -> Tensor:
        return torch.tensor(ids, dtype=torch.int64, device=self.pool.shape.device)

    # ------------------------------------------------------------ whole answers

    def generate(self, requests: Iterable[Request]) -> list[Completion]:
        """Answer every request, in the order given. Any number of them: they are queued as room appears.

        Raises:
            RequestError: one of them can never be served; nothing has run then.
        """
        requests = list(requests)
        for request in requests:
            self.check(request)
        pending = deque(enumerate(requests))
        place: dict[int, int] = {}  # of the requests that are in the engine now
        events: list[list[Event]] = [[] for _ in requests]
        try:
            while pending or place:
                while pending and self.waiting < self.max_waiting:
                    index, request = pending.popleft()
                    place[self.submit(request)] = index
                for event in self.step():
                    if event.request_id in place:
                        events[place[event.request_id]].append(event)
                        if event.finish_reason is not None:
                            del place[event.request_id]
        finally:
            for request_id in place:
                self.abort(request_id)
        return [complete(found) for found in events]

    def stream(self, request: Request) -> Iterator[Event]:
        """The events of one answer as they come; closing the iterator aborts it."""
        request_id = self.submit(request)
        try:
            while True:
                for event in self.step():
                    if event.request_id == request_id:
                        yield event
                        if event.finish_reason is not None:
                            return
        finally:
            self.abort(request_id)


def complete(events: list[Event]) -> Completion:
    """The whole answer from all its events."""
    last = events[-1]
    if last.finish_reason is None:
        raise ValueError("the answer has not ended")
    return Completion(
        request_id=last.request_id,
        ids=[e.token_id for e in events if e.token_id is not None],
        text="".join(e.text for e in events),
        logprobs=[e.logprob for e in events if e.logprob is not None],
        top=[e.top for e in events if e.logprob is not None],
        finish_reason=last.finish_reason,
    )


def _lease_of(sequence: Sequence) -> Lease:
    assert sequence.lease is not None, "only sequences with a place run"
    return sequence.lease


def _shared_vocabulary(model: Decoder, tokenizer: Tokenizer) -> int:
    """Ids that may be generated. A model's embedding is often padded beyond its tokenizer's ids."""
    known, held = tokenizer.vocab_size, model.config.vocab_size
    if known > held:
        raise ArrieroError(
            f"the tokenizer has {known:,} ids, the model only {held:,}: they don't belong together"
        )
    return known


def _make_pool(model: Decoder, max_batch: int, max_tokens: int | None) -> KeyValuePool:
    config = model.config
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    shape = CacheShape(
        config.n_layers, config.n_kv_heads, config.head_dim, parameter.dtype, str(parameter.device)
    )
    if max_tokens is None:
        affordable = int(memory_bytes() * POOL_SHARE) // shape.bytes_per_token
        max_tokens = min(max_batch * round_up(config.context_length), affordable)
    if max_tokens < 2 or max_batch < 1:
        raise ArrieroError("the engine needs room for at least one request of two tokens")
    return KeyValuePool(shape, max_tokens, max_batch)
