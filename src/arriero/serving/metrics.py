"""The service's own figures, as text that Prometheus reads. What is unknown is left out, never shown as zero."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
JOULES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 10000)
MAX_SERIES = 256
"""Most label sets of one metric; what comes after is counted under the label values "other"."""

Labels = tuple[tuple[str, str], ...]


class Counter:
    """A count that only grows, by labels."""

    kind = "counter"

    def __init__(self, name: str, help: str) -> None:
        self.name, self.help = name, help
        self._values: dict[Labels, float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count ``amount`` more."""
        key = tuple(labels.items())
        if key not in self._values and len(self._values) >= MAX_SERIES:
            key = tuple((name, "other") for name in labels)
        self._values[key] = self._values.get(key, 0) + amount

    def value(self, **labels: str) -> float:
        """The count of one label set."""
        return self._values.get(tuple(labels.items()), 0)

    def lines(self) -> Iterable[str]:
        """Its samples."""
        for labels, value in list(self._values.items()):
            yield f"{self.name}{_braces(labels)} {_number(value)}"


class Histogram:
    """How often a figure was at most so much."""

    kind = "histogram"

    def __init__(self, name: str, help: str, buckets: tuple[float, ...] = SECONDS, **labels: str) -> None:
        self.name, self.help = name, help
        self._buckets = buckets
        self._labels = tuple(labels.items())
        self._counts = [0] * (len(buckets) + 1)
        self.count = 0
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Take a figure in."""
        self._counts[bisect_left(self._buckets, value)] += 1
        self.count += 1
        self.sum += value

    @property
    def mean(self) -> float:
        """Mean of the figures so far; 0 before the first."""
        return self.sum / self.count if self.count else 0.0

    def lines(self) -> Iterable[str]:
        """Its samples. A histogram that saw nothing still shows its zero counts: those are known."""
        totals = list(accumulate(self._counts))
        for bound, total in zip((*map(_number, self._buckets), "+Inf"), totals, strict=True):
            yield f"{self.name}_bucket{_braces((*self._labels, ('le', bound)))} {total}"
        yield f"{self.name}_sum{_braces(self._labels)} {_number(self.sum)}"
        yield f"{self.name}_count{_braces(self._labels)} {totals[-1]}"


class Metrics:
    """Everything that the service counts by itself; the engine's own figures are read when they are asked for."""

    def __init__(self) -> None:
        self.first_token = Histogram(
            "arriero_time_to_first_token_seconds", "From the request to its first token."
        )
        self.between_tokens = Histogram(
            "arriero_inter_token_latency_seconds",
            "Between two tokens of one answer, as they leave the engine.",
        )
        self.queue = Histogram(
            "arriero_request_queue_seconds", "From the request to the engine's start on it."
        )
        self.duration = Histogram("arriero_request_duration_seconds", "From the request to its last token.")
        self.http = Counter("arriero_http_requests_total", "HTTP requests by path and status.")
        self.rejects = Counter("arriero_rejects_total", "Requests refused, by the error's code.")
        self.finished = Counter("arriero_answers_total", "Answers by why they ended.")
        self.joules = Counter(
            "arriero_request_joules_total",
            "Energy of the steps that worked on requests, by what it rests on.",
        )
        self.money = Counter(
            "arriero_request_money_total", "Price of the seconds that the steps took, by what it rests on."
        )
        self.request_joules: dict[str, Histogram] = {}

    def observe_joules(self, joules: float, basis: str) -> None:
        """Energy of one request that has ended."""
        found = self.request_joules.get(basis)
        if found is None:
            found = Histogram(
                "arriero_request_joules", "Energy of a request, by what it rests on.", JOULES, basis=basis
            )
            self.request_joules[basis] = found
        found.observe(joules)

    def text(self, counters: Mapping[str, tuple[str, float]], gauges: Mapping[str, tuple[str, float]]) -> str:
        """All of it in Prometheus' text format 0.0.4; ``counters`` and ``gauges`` map names to help and value."""
        lines: list[str] = []
        own: list[Counter | Histogram] = [
            self.first_token, self.between_tokens, self.queue, self.duration, self.http, self.rejects,
            self.finished, self.joules, self.money,
        ]  # fmt: skip
        for metric in own:
            lines += [*_head(metric.name, metric.help, metric.kind), *metric.lines()]
        for number, histogram in enumerate(self.request_joules.values()):
            head = _head(histogram.name, histogram.help, histogram.kind) if number == 0 else []
            lines += [*head, *histogram.lines()]
        for kind, figures in (("counter", counters), ("gauge", gauges)):
            for name, (help, value) in figures.items():
                lines += [*_head(name, help, kind), f"{name} {_number(value)}"]
        return "\n".join(lines) + "\n"


def _head(name: str, help: str, kind: str) -> list[str]:
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
