"""`arriero bench`: throughput and latency of a model, in this process or over HTTP, beside what was planned."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from arriero.artifacts.host import cpu_name, usable_cores, version_facts
from arriero.cost.allocator import return_freed_memory
from arriero.cost.device import load_profile
from arriero.cost.meter import Meter
from arriero.cost.procfs import resident_bytes
from arriero.cost.quantity import Quantity, total
from arriero.cost.tariffs import Tariffs
from arriero.errors import ArrieroError
from arriero.inference.request import Speculative
from arriero.serving.bench_engine import Decoding, EngineTarget, Progress, Traffic, traffic_of
from arriero.serving.bench_figures import Goals, Record, summary
from arriero.serving.bench_http import HttpTarget
from arriero.serving.bench_load import Job, Lengths, Workload, make_jobs, plain_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.tokenization.tokenizer import Tokenizer

FORMAT = "arriero.bench/1"
_LEAST_REQUESTS, _REQUESTS_EACH = 8, 3
"""Requests of a level: so many for each that runs at a time, and never fewer than the first figure."""
_PLAIN_CONTEXT = 2048
"""Context taken for a server that does not say its own."""


@dataclass(frozen=True)
class BenchSettings:
    """What to measure.

    Args:
        model: folder or GGUF file; with ``url`` the tokenizer's folder, or only the name that the server knows.
        url, key: a server to measure instead of the engine in this process.
        concurrency: requests at a time, a level each. requests: of a level; None takes three for each that runs at
            a time. seconds: after so long a level begins no new requests.
        prefix: tokens that the prompts of "shared-prefix" begin with; 0 chooses.
        speculative: who may guess tokens ahead. Answers to random prompts repeat themselves, and guessing is easy there.
        device: of the engine in this process, as for Engine.load.
    """

    model: str
    url: str | None = None
    key: str | None = None
    concurrency: tuple[int, ...] = (1, 4, 8)
    workloads: tuple[Workload, ...] = ("chat", "shared-prefix")
    requests: int | None = None
    seconds: float = 30.0
    lengths: Lengths = Lengths()  # noqa: RUF009 - frozen
    prefix: int = 0
    goals: Goals = Goals()  # noqa: RUF009 - frozen
    temperature: float = 0.0
    speculative: Speculative = "off"
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class PlannedSpeeds:
    """What planning says of a level: seconds to the first token and for each one after it, and tokens a second of all."""

    ttft: Quantity
    tpot: Quantity
    tokens_per_s: Quantity


Planner = Callable[[int, int, int], PlannedSpeeds]
"""Prompt tokens, answer tokens and requests at a time to what planning says of them."""


class Target(Protocol):
    """What answers the jobs."""

    over_http: bool

    def run(
        self, jobs: Sequence[Job], concurrency: int, deadline: float, tell: Progress
    ) -> tuple[list[Record], Decoding]:
        """All answers, and the steps that only decoded, where they can be seen."""


@dataclass(frozen=True)
class Subject:
    """A target with what must be known of it. ``ids``: tokens that prompts are made of. ``start``: seconds by phase."""

    target: Target
    ids: Sequence[int]
    context: int
    facts: dict[str, Any]
    start: dict[str, float] = field(default_factory=dict)
    traffic: Traffic | None = None


Watch = Callable[[dict[str, Any], int], None]
"""A level's figures, and requests still to come; called as it goes on (with few figures) and at its end (with all)."""


def bench(settings: BenchSettings, planner: Planner | None, watch: Watch) -> dict[str, Any]:
    """Measure every level and give the report, which is JSON.

    Raises:
        ArrieroError: there is no such model or server, or the requests do not fit it.
    """
    subject = _serving(settings) if settings.url else _engine(settings)
    tariffs = None if subject.target.over_http else Tariffs.load()
    bandwidth, why_not = measured_bandwidth()
    levels = []
    for workload in settings.workloads:
        for concurrency in settings.concurrency:
            level = _level(settings, subject, workload, concurrency, tariffs, watch)
            decoding = level.pop("decoding")
            level["engine"] = decoding.counters or None
            level["decode"] = _decode(decoding, subject.traffic, bandwidth)
            level["planned"] = _planned(level, planner)
            levels.append(level)
            watch(level, 0)
    peaks = [level["peak_memory_bytes"]["value"] for level in levels if level["peak_memory_bytes"]["value"]]
    return {
        "format": FORMAT,
        **subject.facts,
        "machine": {"cpu": cpu_name(), "cores": usable_cores(), "versions": version_facts()},
        "bandwidth_bytes_per_s": bandwidth,
        "bandwidth_source": why_not
        or "arriero calibrate: read and write of a copy far larger than the caches",
        "settings": json.loads(json.dumps(asdict(settings) | {"key": None})),
        "startup_s": subject.start,
        "peak_memory_bytes": max(peaks, default=None),
        "levels": levels,
    }


def measured_bandwidth() -> tuple[float | None, str]:
    """Bytes a second that this machine's memory gives, or why nobody knows."""
    try:
        profile = load_profile()
    except ArrieroError as error:
        return None, str(error)
    stale = "was never measured" if profile is None else profile.stale()
    if profile is None or stale is not None:
        return None, f"unknown: this machine's profile {stale}; run `arriero calibrate`"
    return profile.copy_bytes_per_s, ""


# ---------------------------------------------------------------- what is measured


def _engine(settings: BenchSettings) -> Subject:
    begun = time.perf_counter()
    from arriero.inference.engine import Engine

    imported, bare = time.perf_counter(), _resident()
    engine = Engine.load(Path(settings.model), max_batch=max(settings.concurrency), device=settings.device)
    loaded = time.perf_counter()
    target = EngineTarget(engine, settings.temperature, settings.speculative)
    ids = _plain_ids(engine.tokenizer)
    context = min(engine.context_length, engine.pool.max_tokens)
    target.run([Job(list(ids[:8]), 2)], 1, time.perf_counter() + 60, lambda _: None)
    start = {
        "import": imported - begun,
        "load": loaded - imported,
        "first_answer": time.perf_counter() - loaded,
    }
    traffic = traffic_of(engine)
    memory = {
        "interpreter": bare,
        "with_model": _resident(),
        "kv_pool": engine.pool.bytes,
        "files": _weight_files(settings),
    }
    facts = {
        "model": settings.model, "target": "engine", "context_length": context, "resident_bytes": memory,
        "runner": engine.runner.name, "device": engine.pool.shape.device, "weight_bytes_per_step": traffic.weights, "kv_bytes_per_token": traffic.token,
    }  # fmt: skip
    return Subject(target, ids, context, facts, start, traffic)


def _resident() -> int:
    """Bytes of memory that the process holds, what it has freed left out."""
    gc.collect()
    return_freed_memory()
    return resident_bytes()


def _weight_files(settings: BenchSettings) -> int:
    """Bytes of the files that the weights were read from."""
    path = Path(settings.model)
    return sum(f.stat().st_size for f in ([path] if path.is_file() else path.glob("*.safetensors")))


def _serving(settings: BenchSettings) -> Subject:
    assert settings.url is not None
    folder = Path(settings.model)
    tokenizer = None
    if folder.exists():
        from arriero.tokenization.load import load_tokenizer

        tokenizer = load_tokenizer(folder)
    ids = _plain_ids(tokenizer) if tokenizer else range(100, 1000)
    text = tokenizer.decode if tokenizer else plain_words
    begun = time.perf_counter()
    target = HttpTarget(
        settings.url, settings.key, model=None if tokenizer else settings.model, text=text,
        temperature=settings.temperature, speculative=settings.speculative, ids=tokenizer is not None,
        trial=Job(list(ids[:8]), 2),
    )  # fmt: skip
    context = _context_of(target, settings)
    facts = {
        "model": target.model,
        "target": target.url,
        "context_length": context,
        "asked": target.dialect.words,
    }
    return Subject(target, ids, context, facts, {"first_answer": time.perf_counter() - begun})


def _context_of(target: HttpTarget, settings: BenchSettings) -> int:
    """Arriero's and vLLM's lists of models say the context."""
    from arriero.serving.client import get_json

    for served in get_json(target.url, settings.key, "/v1/models")["data"]:
        if served.get("id") == target.model:
            known = served.get("context_length") or served.get("max_model_len")
            return int(known) if known else _PLAIN_CONTEXT
    return _PLAIN_CONTEXT


def _plain_ids(tokenizer: Tokenizer) -> Sequence[int]:
    """Ids of ordinary text: all but the special ones."""
    named = set(tokenizer.special_ids.values())
    plain = [i for i in range(tokenizer.vocab_size) if i not in named]
    return plain or range(tokenizer.vocab_size)


# ---------------------------------------------------------------- one level


def _level(
    settings: BenchSettings, subject: Subject, workload: Workload, concurrency: int, tariffs: Tariffs | None,
    watch: Watch,
) -> dict[str, Any]:  # fmt: skip
    count = settings.requests or max(_LEAST_REQUESTS, _REQUESTS_EACH * concurrency)
    seed = settings.seed * 1000 + concurrency
    jobs = make_jobs(
        workload, count, settings.lengths, ids=subject.ids, context=subject.context, prefix=settings.prefix,
        seed=seed,
    )  # fmt: skip
    head = {"workload": workload, "concurrency": concurrency}
    watch(head, count)
    begun = time.perf_counter()

    def tell(records: list[Record]) -> None:
        now = summary(records, time.perf_counter() - begun, settings.goals)
        watch(head | now, count - len(records))

    with Meter(None, tariffs) as meter:
        records, decoding = subject.target.run(jobs, concurrency, begun + settings.seconds, tell)
    if not any(not r.error for r in records):
        raise ArrieroError(f"no request was answered: {records[0].error if records else 'there were none'}")
    seconds = max(r.ended for r in records) - min(r.sent for r in records)
    figures = summary(records, seconds, settings.goals)
    return head | figures | {"decoding": decoding} | _used(meter, records, subject.target.over_http)


def _used(meter: Meter, records: Sequence[Record], over_http: bool) -> dict[str, Any]:
    """Memory, joules and money of a level: as metered here, or as an Arriero server told of each answer."""
    sheet = meter.result().estimate
    found = {"peak_memory_bytes": sheet.peak_memory, "joules": sheet.energy, "money": sheet.money}
    if over_http:
        elsewhere = Quantity.unknown("B", "the server is another process")
        found = {"peak_memory_bytes": elsewhere, "joules": _told(records, "energy", "J"), "money": _told(records, "money", "")}  # fmt: skip
    tokens = max(1, sum(r.generated for r in records if not r.error))
    each = {"joules_per_token": found["joules"].scaled(1 / tokens), "money_per_million_tokens": found["money"].scaled(1e6 / tokens)}  # fmt: skip
    return {name: quantity.model_dump() for name, quantity in (found | each).items()}


def _told(records: Sequence[Record], what: str, unit: str) -> Quantity:
    """The sum of what a server says that its answers took; unknown where it does not say."""
    told = [(r.cost or {}).get(what) for r in records if not r.error]
    try:
        parts = [Quantity.model_validate(one) for one in told]
    except ValueError:
        return Quantity.unknown(unit, "the server is another process, and does not tell")
    if not parts:
        return Quantity.unknown(unit, "no request was answered")
    whole = total(parts, parts[0].unit)
    return whole.model_copy(update={"source": parts[0].source}) if whole.known else whole


def _decode(decoding: Decoding, traffic: Traffic | None, bandwidth: float | None) -> dict[str, Any] | None:
    """Steps that only decoded: tokens a second, and bytes read a second as a share of the memory's."""
    if traffic is None or not decoding.seconds:
        return None
    rate = decoding.bytes / decoding.seconds
    return {
        "steps": decoding.steps,
        "tokens_per_s": decoding.tokens / decoding.seconds,
        "tokens_per_step": decoding.tokens / decoding.steps,
        "bytes_per_s": rate,
        "bandwidth_share": rate / bandwidth if bandwidth else None,
    }


def _planned(level: dict[str, Any], planner: Planner | None) -> dict[str, Any] | None:
    """What planning says of requests of this level's mean lengths, and how far off it was."""
    if planner is None:
        return None
    prompt = round((level["prompt_tokens"] - (level["cached_tokens"] or 0)) / level["requests"])
    answer = max(1, round(level["generated_tokens"] / level["requests"]))
    said = planner(max(1, prompt), answer, level["concurrency"])
    value = said.tokens_per_s.value
    return {
        "ttft_s": said.ttft.model_dump(), "tpot_s": said.tpot.model_dump(),
        "output_tokens_per_s": said.tokens_per_s.model_dump(),
        "measured_over_planned": level["output_tokens_per_s"] / value if value else None,
    }  # fmt: skip
