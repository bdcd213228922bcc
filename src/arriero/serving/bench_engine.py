"""Benchmarking the engine in this process: no HTTP, no thread beside it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from arriero.inference.request import Event, Request, Sampling, Speculative
from arriero.models.layers.quantized import QuantizedLinear
from arriero.serving.bench_figures import Record
from arriero.serving.bench_load import Job

if TYPE_CHECKING:
    from arriero.inference.engine import Engine
    from arriero.models.decoder import Decoder

COUNTED = ("steps", "preemptions", "spec_proposed", "spec_accepted")
"""The engine's counters that a report shows."""
Progress = Callable[[list[Record]], None]
"""Told of all answers that have ended so far, now and then."""


@dataclass(frozen=True)
class Traffic:
    """Bytes that steps must read at least. Activations, and what is written, come on top.

    Attributes:
        weights: a step: every weight once, of an input table of its own only the rows looked up.
        token: keys and values of one token over all layers.
    """

    weights: float
    token: float


@dataclass
class Decoding:
    """Steps in which every running answer got a token and no prompt was computed.

    Attributes:
        counters: what the engine counted meanwhile, those steps and the others.
    """

    seconds: float = 0.0
    steps: int = 0
    tokens: int = 0
    bytes: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)

    def add(self, seconds: float, tokens: int, read: float) -> None:
        """Count a step."""
        self.seconds += seconds
        self.steps += 1
        self.tokens += tokens
        self.bytes += read


@dataclass
class _Level:
    records: dict[int, Record] = field(default_factory=dict)
    ended: list[Record] = field(default_factory=list)
    decoding: Decoding = field(default_factory=Decoding)


class EngineTarget:
    """Keeps ``concurrency`` requests in the engine until there are none left (a closed loop)."""

    over_http = False

    def __init__(self, engine: Engine, temperature: float = 0.0, speculative: Speculative = "off") -> None:
        self.engine = engine
        self._temperature = temperature
        self._speculative = speculative
        self._traffic = traffic_of(engine)

    def run(
        self, jobs: Sequence[Job], concurrency: int, deadline: float, tell: Progress
    ) -> tuple[list[Record], Decoding]:
        """Answer the jobs; after ``deadline`` (on `time.perf_counter`) no new one is begun.

        Raises:
            RequestError: a job does not fit the engine.
        """
        level, pending = _Level(), deque(jobs)
        engine, before = self.engine, asdict(self.engine.counters)
        try:
            while pending or level.records:
                late = time.perf_counter() > deadline and bool(level.ended)
                while pending and len(level.records) < concurrency and not late:
                    self._begin(level, pending.popleft())
                if not level.records:
                    break
                self._step(level, tell)
        finally:
            for request_id in level.records:
                engine.abort(request_id)
        level.decoding.counters = {name: asdict(engine.counters)[name] - before[name] for name in COUNTED}
        return level.ended, level.decoding

    def _begin(self, level: _Level, job: Job) -> None:
        sampling = Sampling(temperature=self._temperature, seed=0, max_tokens=job.answer, ignore_end=True)
        sent = time.perf_counter()
        request = Request(job.prompt, sampling, speculative=self._speculative)
        level.records[self.engine.submit(request)] = Record(sent, len(job.prompt))

    def _step(self, level: _Level, tell: Progress) -> None:
        decoding = all(
            r.tokens for r in level.records.values()
        )  # each has its first token: no prompts are left
        lengths = {i: r.prompt + r.generated for i, r in level.records.items()}
        begun = time.perf_counter()
        events = [e for e in self.engine.step() if e.request_id in level.records]
        now = time.perf_counter()
        if decoding and events:
            stored = sum(lengths[i] for i in {e.request_id for e in events})
            level.decoding.add(now - begun, len(events), self._traffic.weights + stored * self._traffic.token)
        for event in events:
            _take(level, event, now)
        if any(e.finish_reason is not None for e in events):
            tell(level.ended)


def _take(level: _Level, event: Event, now: float) -> None:
    record = level.records[event.request_id]
    if event.token_id is not None:
        record.tokens.append(now)
        record.generated += 1
    record.cached = max(record.cached or 0, event.cached_tokens)
    if event.finish_reason is not None:
        record.ended = now
        level.ended.append(level.records.pop(event.request_id))


def traffic_of(engine: Engine) -> Traffic:
    """What the steps of this engine must read."""
    pool = engine.pool
    return Traffic(weights_read(engine.model), pool.bytes / pool.max_tokens)


def weights_read(model: Decoder) -> float:
    """Bytes of weights that one step reads: all that the layers hold, without an input table that is only looked up.

    An input table that is also the output matrix (tied) is read whole.
    """
    held: dict[int, int] = {}
    codes = (
        0  # of layers that keep them as native tiles alone: asking such a layer for them would make a copy
    )
    for module in model.modules():
        buffers = dict(module.named_buffers(recurse=False))
        own = [t for name, t in buffers.items() if name not in module._non_persistent_buffers_set]
        held |= {t.data_ptr(): t.nbytes for t in (*module.parameters(recurse=False), *own)}
        if isinstance(module, QuantizedLinear) and "weight_packed" not in buffers:
            codes += module.packed_bytes
    table = model.embedding.state_dict().values()
    looked_up = 0 if model.config.tie_embeddings else sum(t.nbytes for t in table)
    return float(sum(held.values()) + codes - looked_up)
