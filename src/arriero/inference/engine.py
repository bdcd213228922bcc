"""The engine: continuous batching of many requests over one model.

It is a plain object that is stepped by whoever owns it, from one thread: no thread, no event loop and no queue
of its own beyond the waiting requests. The server wraps it in a thread; evaluation and rollouts call
:meth:`Engine.generate`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arriero.errors import ArrieroError
from arriero.inference.adapters import AdapterStore
from arriero.inference.admission import Admission
from arriero.inference.constraints import Constraints
from arriero.inference.counters import EngineCounters
from arriero.inference.grammar.compile import GrammarCompiler
from arriero.inference.groups import Group, complete
from arriero.inference.guessing import make_speculator
from arriero.inference.kv_pool import KVPool
from arriero.inference.memory import KVType, make_pool
from arriero.inference.prefix_cache import PrefixCache
from arriero.inference.request import Completion, Event, QueueFullError, Request
from arriero.inference.runners import HeadKind, RunnerKind, make_runner
from arriero.inference.scheduler import Reserve, Scheduler, Task
from arriero.inference.sequence import Sequence
from arriero.inference.speculative.draft import load_draft
from arriero.inference.stepper import Stepper
from arriero.inference.weights import WeightWatch

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder
    from arriero.tokenization.tokenizer import Tokenizer

LOGITS_BYTES = 64 << 20
"""Most memory of the logits of prompts whose log-probabilities are asked for, in one step."""


class Engine:
    """Generates from one decoder.

    Args:
        max_batch: most answers that run at a time.
        max_tokens_total: token places of the key-value pool; by default ``max_batch`` full contexts, or what
            fits into a quarter of the machine's memory when that is less.
        max_waiting: most requests that wait for room before :meth:`submit` refuses.
        token_budget: most tokens that one step runs, so that a long prompt does not hold up others.
        prefix_cache: keep what was computed for requests that begin with the same tokens.
        kv_dtype: of keys and values; ``auto`` is the model's own. int8 halves bf16's memory; what is stored is then off
            by at most 1/254 of the greatest number of its vector.
        runner: what computes: the native kernels on a processor and the CUDA runner on a GPU, where they know the model
            (``auto``), or one of the three.
        head: ``int8``: the native kernels read the head as int8 codes; faster, and slightly other answers.
        fp8: the CUDA runner multiplies in float8, which needs Hopper; slightly other answers.
        lean: low-bit codes of the model are held once, in the form that the native kernels compute with;
            ``weight_packed`` of its layers is then made for whoever asks. For models that the engine owns.
        reserve: how places are given, see :class:`~arriero.inference.scheduler.Scheduler`.
        adapters: LoRA adapters that requests may name; by default a store that is empty at first.
        draft: a small model with the same tokenizer, which guesses ahead.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        max_batch: int = 32,
        max_tokens_total: int | None = None,
        max_waiting: int = 64,
        token_budget: int = 512,
        prefix_cache: bool = True,
        kv_dtype: KVType = "auto",
        runner: RunnerKind = "auto",
        head: HeadKind = "as_is",
        fp8: bool = False,
        lean: bool = False,
        reserve: Reserve = "grow",
        adapters: AdapterStore | None = None,
        draft: Decoder | None = None,
    ) -> None:
        if max_batch < 1 or token_budget < 1:
            raise ArrieroError("max_batch and token_budget of the engine must be at least 1")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.adapters = AdapterStore(model) if adapters is None else adapters
        self.context_length = model.config.context_length
        self.max_batch, self.max_waiting = max_batch, max_waiting
        self.pool: KVPool = make_pool(model, max_batch, max_tokens_total, kv_dtype)
        self.cache = PrefixCache(self.pool, prefix_cache)
        self.runner = make_runner(runner, model, self.pool, self.adapters, head, fp8, lean)
        prompt_rows = max(1, LOGITS_BYTES // (4 * model.config.vocab_size))
        self._scheduler = Scheduler(self.cache, max_batch, token_budget, reserve, prompt_rows)
        self._counters = EngineCounters(blocks_total=self.pool.n_blocks)
        self._weights = WeightWatch(model)
        self._vocabulary = _shared_vocabulary(model, tokenizer)
        self._admission = Admission(
            model.config.vocab_size, self._vocabulary, self.context_length, self.pool.max_tokens, self.adapters,
            has_draft=draft is not None,
        )  # fmt: skip
        ends = (tokenizer.eos_id, tokenizer.end_of_turn_id)
        self._end_ids = frozenset(i for i in ends if i is not None)
        self.grammars = GrammarCompiler(tokenizer, self._end_ids)
        self._guesses_unasked = self.runner.batch_invariant or draft is not None
        self._speculator = make_speculator(draft, self._vocabulary, max_batch, self.pool.max_tokens, runner)
        self._constraints = Constraints(self.grammars)
        self._numbers = itertools.count(1)
        self._arrivals = itertools.count()
        self._groups: dict[int, Group] = {}
        self._stepper = Stepper(
            self.runner, self._scheduler, self._speculator, self._counters, self._vocabulary
        )

    @classmethod
    def load(cls, folder: Path, *, draft: Path | None = None, device: str = "cpu", **settings: Any) -> Engine:
        """An engine for a decoder: an artifact, a Hugging Face folder, or a GGUF file with its tokenizer in it.

        Args:
            draft: a model that guesses ahead; it must have the same tokenizer.
            device: cpu, cuda or cuda:N, where the weights are read to; ``auto``: cuda where there is one.
            settings: keywords of :class:`Engine`.

        Raises:
            ArrieroError: there is no model, or one that cannot be read, or no such device.
        """
        from arriero.inference.cuda.device import resolve_device
        from arriero.models.checkpoint import load_decoder
        from arriero.tokenization.load import load_tokenizer

        if not folder.is_dir() and folder.suffix != ".gguf":
            raise ArrieroError(
                f"{folder} is neither the folder of a model (it holds config.json) nor a GGUF file"
            )
        place = resolve_device(device)
        tokenizer = load_tokenizer(folder)
        if draft is not None:
            settings["draft"] = load_draft(draft, tokenizer, place)
        model = load_decoder(folder, device=place)
        return cls(model, tokenizer, **{"adapters": AdapterStore(model, folder), "lean": True, **settings})

    # ------------------------------------------------------------ what goes on

    @property
    def running(self) -> int:
        """Answers that have a place in the pool."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Answers that wait for a place."""
        return len(self._scheduler.waiting)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._groups

    @property
    def steps(self) -> int:
        """Steps so far."""
        return self._counters.steps

    @property
    def last_step(self) -> dict[int, int]:
        """Rows that the last step ran for each request, by its id: what the step's cost is shared by."""
        return self._stepper.rows_of

    @property
    def counters(self) -> EngineCounters:
        """What has been done so far, and blocks in use now."""
        self._counters.preemptions = self._scheduler.preemptions
        self._counters.blocks_used = self.cache.in_use
        return self._counters

    def check_integrity(self) -> None:
        """Compare the pool's books with those of everybody who owns blocks.

        Raises:
            ArrieroError: a block leaked or is owned without being counted, which would be a bug here.
        """
        tasks = [*self._scheduler.running, *self._scheduler.waiting]
        self.pool.check([self.cache.blocks, *(t.blocks for t in tasks)])
        if {t for g in self._groups.values() for t in g.open} != set(tasks):
            raise ArrieroError("the engine's requests and its sequences differ: this is a bug of the engine")

    # ------------------------------------------------------------ requests in and out

    def submit(self, request: Request) -> int:
        """Queue a request; gives its id, which its events carry.

        Raises:
            RequestError: it can never be served: prompt and ``max_tokens`` do not fit the context or the pool.
            QueueFullError: too many are waiting.
        """
        try:
            max_tokens = self.check(request)
            if self.waiting >= self.max_waiting:
                raise QueueFullError(
                    f"{self.waiting} requests are waiting already, the most allowed: try again later"
                )
        except ArrieroError:
            self._counters.rejected += 1
            raise
        if self.idle:
            self._look_at_weights()
        request_id = next(self._numbers)
        tasks = self._tasks(request_id, request, max_tokens)
        self._groups[request_id] = Group(request, tasks)
        for task in tasks:
            self._constraints.begin(task, request.grammar)
            self._scheduler.add(task)
        return request_id

    def _tasks(self, request_id: int, request: Request, max_tokens: int) -> list[Task]:
        salt = b""
        if request.speculative == "auto" and not self._guesses_unasked:
            # rows more or less would change a seeded answer's bits, so it takes someone to ask for them
            request = replace(request, speculative="off")
        if request.adapter is not None:
            self.adapters.acquire(request.adapter)
            salt = self.adapters.salt(request.adapter)
        tasks = []
        for index in range(request.answers):
            sequence = Sequence(request_id, request, self.tokenizer, self._end_ids, max_tokens, index=index)
            tasks.append(Task(next(self._arrivals), sequence, salt, request.adapter))
        leader, *tasks[0].followers = tasks
        for follower in leader.followers:
            follower.leader = leader
        return tasks

    def check(self, request: Request) -> int:
        """The most tokens that an answer may have.

        Raises:
            RequestError: the request can never be served.
        """
        if request.grammar is not None:
            self.grammars.check(request.grammar)
        return self._admission.check(request)

    def abort(self, request_id: int) -> Event | None:
        """End a request now and free its places. None when it is not there (any more)."""
        group = self._groups.pop(request_id, None)
        if group is None:
            return None
        event = group.open[0].sequence.abort()
        for task in list(group.open):
            self._remove(task)
        self._close(group)
        self._counters.aborted += 1
        return event

    def abort_all(self) -> list[Event]:
        """End every request."""
        return [event for i in list(self._groups) if (event := self.abort(i)) is not None]

    def _remove(self, task: Task) -> None:
        self._scheduler.remove(task)
        self._speculator.release(task.sequence)
        self._constraints.forget(task)

    def _close(self, group: Group) -> None:
        if group.request.adapter is not None:
            self.adapters.release(group.request.adapter)

    def weights_changed(self) -> None:
        """Forget what was computed with the weights as they were.

        The engine sees by itself, before the first request after a pause, that weights were written in place or
        replaced; only a change through ``tensor.data`` must be told.
        """
        self.cache.clear()
        self.runner.refresh()

    def _look_at_weights(self) -> None:
        if self.model.training:
            self.model.eval()
        if self._weights.changed():
            self.weights_changed()

    # ------------------------------------------------------------ the step

    def step(self) -> list[Event]:
        """Run the model once: one token for every running answer, and chunks of prompts beside them."""
        wrong = self._constraints.settle(patient=not self.running)
        came = [(task, [task.sequence.fail(error)]) for task, error in wrong]
        came += self._stepper.run(self._scheduler.plan())
        return [event for task, events in came for event in self._tell(task, events)]

    def _tell(self, task: Task, events: list[Event]) -> list[Event]:
        """What is to be told of a sequence's events; if it has ended, its places are free."""
        if events[-1].finish_reason is not None:
            self._remove(task)
        request_id = task.sequence.id
        group = self._groups[request_id]
        told = group.take(task, events)
        if not group.open:
            del self._groups[request_id]
            self._close(group)
        return told

    # ------------------------------------------------------------ whole answers

    def generate(self, requests: Iterable[Request]) -> list[Completion]:
        """Answer every request, in the order given. Any number of them: they are queued as room appears.

        A request for several answers gives as many, one after the other.

        Raises:
            RequestError: one of them can never be served; nothing has run then.
            ArrieroError: an answer failed, because the model gives no numbers (NaN) or its grammar no next token.
        """
        requests = list(requests)
        for request in requests:
            self.check(request)
        pending = deque(enumerate(requests))
        place: dict[int, int] = {}  # of the requests that are in the engine now
        events: list[dict[int, list[Event]]] = [{} for _ in requests]
        try:
            while pending or place:
                while pending and self.waiting < self.max_waiting:
                    index, request = pending.popleft()
                    place[self.submit(request)] = index
                for event in self.step():
                    if event.finish_reason == "error":
                        raise ArrieroError(event.error or "the answer failed")
                    if event.request_id in place:
                        events[place[event.request_id]].setdefault(event.index, []).append(event)
                for request_id in [i for i in place if i not in self._groups]:
                    del place[request_id]
        finally:
            for request_id in place:
                self.abort(request_id)
        return [complete(found[index]) for found in events for index in sorted(found)]

    def stream(self, request: Request) -> Iterator[Event]:
        """The events of one request as they come; closing the iterator aborts it."""
        request_id = self.submit(request)
        try:
            while request_id in self._groups:
                yield from [event for event in self.step() if event.request_id == request_id]
        finally:
            self.abort(request_id)


def _shared_vocabulary(model: Decoder, tokenizer: Tokenizer) -> int:
    """Ids that may be generated. A model's embedding is often padded beyond its tokenizer's ids."""
    known, held = tokenizer.vocab_size, model.config.vocab_size
    if known > held:
        raise ArrieroError(
            f"the tokenizer has {known:,} ids, the model only {held:,}: they don't belong together"
        )
    return known
