"""`/metrics`, what requests cost, and the pieces that count them."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from arriero.cost.counters import Counters
from arriero.cost.counters_energy import Energy
from arriero.cost.tariffs import Machine, Tariffs
from arriero.inference.request import Event, Request, Sampling
from arriero.serving.bill import Bill, Biller
from arriero.serving.errors import ApiError
from arriero.serving.metrics import Counter, Histogram, Metrics
from arriero.serving.ticket import MAX_UNREAD_STEPS, MERGE_FROM, Ticket

SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? -?[0-9.e+-]+$')


def figures(server: Any) -> dict[str, float]:
    """Every sample, checked for Prometheus' form: help and type before it, no sample twice."""
    response = server.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    typed: set[str] = set()
    for line in response.text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in typed
            typed.add(name)
        elif not line.startswith("# HELP "):
            assert SAMPLE.match(line), line
            name, value = line.rsplit(" ", 1)
            assert name not in found
            base = re.sub(r"\{.*", "", name)
            assert base in typed or re.sub(r"_(bucket|sum|count)$", "", base) in typed
            found[name] = float(value)
    return found


def test_what_is_counted(start: Any) -> None:
    server = start()
    before = figures(server)
    assert before["arriero_time_to_first_token_seconds_count"] == 0
    assert not any(name.startswith("arriero_request_joules") for name in before), "unknown is absent"
    for _ in range(2):
        assert server.chat("x" * 200, max_tokens=5, temperature=0, ignore_eos=True).status_code == 200
    server.chat(model="other")
    server.chat(temperature=9)
    server.http.get("/v1/no/such/path/4711")
    server.http.get("/v1/models", headers={"Authorization": "Bearer wrong"})
    after = figures(server)
    assert after["arriero_time_to_first_token_seconds_count"] == 2
    assert after["arriero_inter_token_latency_seconds_count"] == 8
    assert after["arriero_request_queue_seconds_count"] == 2
    assert after["arriero_request_duration_seconds_count"] == 2
    assert after["arriero_generation_tokens_total"] == 10
    assert after["arriero_prompt_tokens_total"] > 400
    assert after["arriero_prefix_cache_hit_tokens_total"] >= 64
    assert after['arriero_answers_total{reason="length"}'] == 2
    assert after['arriero_http_requests_total{path="/v1/chat/completions",status="200"}'] == 2
    assert after['arriero_http_requests_total{path="other",status="404"}'] == 1
    assert after['arriero_rejects_total{reason="model_not_found"}'] == 1
    assert after['arriero_rejects_total{reason="invalid_value"}'] == 1
    assert after['arriero_rejects_total{reason="invalid_api_key"}'] == 1
    assert after["arriero_answers_running"] == after["arriero_requests_open"] == 0
    assert 0 <= after["arriero_kv_cache_usage_ratio"] <= 1
    assert after["arriero_preemptions_total"] == 0
    buckets = [v for k, v in after.items() if k.startswith("arriero_time_to_first_token_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 2


def test_joules_and_money_say_what_they_rest_on(start: Any) -> None:
    server = start(costs={"watts": 100, "price_per_hour": 36, "currency": "EUR"})
    usage = server.chat(include_cost=True).json()["usage"]
    cost = usage["cost"]
    assert cost["money"]["unit"] == "EUR"
    assert cost["money"]["basis"] == "modelled"  # measured seconds times a declared price
    assert cost["money"]["value"] == pytest.approx(cost["seconds"] / 100)
    assert cost["energy"]["value"] == pytest.approx(cost["seconds"] * 100)
    assert cost["energy"]["basis"] == "declared"
    deadline = time.monotonic() + 30
    while not any(name.startswith("arriero_request_joules_count") for name in figures(server)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found = figures(server)
    assert found['arriero_request_joules_total{basis="declared"}'] == pytest.approx(cost["energy"]["value"])
    assert found['arriero_request_money_total{currency="EUR",basis="modelled"}'] > 0
    assert "cost" not in server.chat().json()["usage"]


# ---------------------------------------------------------------- bills


class Joules:
    """An energy counter that a test moves."""

    name, basis = "test", "measured"

    def __init__(self) -> None:
        self.now = 0.0

    def observe(self, now: float) -> Energy:
        return Energy(self.now)

    def faults(self) -> list[str]:
        return []


HERE = Machine("some cpu", 4, 4)


def test_a_step_is_shared_by_what_was_worked_on() -> None:
    biller = Biller(Tariffs.load({"watts": 10}), machine=HERE, counters=Counters())
    one, other, idle = Bill(), Bill(), Bill()
    biller.begin()
    time.sleep(0.05)
    biller.share([(one, 3.0), (other, 1.0)])
    assert one.wall_seconds == pytest.approx(3 * other.wall_seconds)
    assert one.wall_seconds + other.wall_seconds >= 0.05
    assert biller.energy(one).value == pytest.approx(10 * one.wall_seconds)
    assert biller.energy(idle).value == 0
    time.sleep(0.05)
    biller.begin()  # nobody's time
    biller.share([(idle, 1.0)])
    assert idle.wall_seconds < 0.04


def test_counted_power_takes_the_place_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, clock = Joules(), [100.0]
    monkeypatch.setattr("arriero.serving.bill.time.monotonic", lambda: clock[0])
    biller = Biller(Tariffs.load(), machine=HERE, counters=Counters(package=counter))  # type: ignore[arg-type]
    bill = Bill()
    biller.begin()
    clock[0] += 0.5
    biller.share([(bill, 1.0)])
    assert biller.energy(bill).basis == "modelled"
    clock[0] += 0.5
    counter.now += 42.0
    biller.share([(bill, 1.0)])
    assert biller.energy(bill).basis == "measured"
    assert biller.energy(bill).value == pytest.approx(42.0)


def test_an_accelerator_without_a_counter_leaves_energy_unknown() -> None:
    biller = Biller(Tariffs.load(), machine=HERE, counters=Counters(), accelerator="no such device")
    metrics = Metrics()
    biller.record(Bill(1.0, 1.0), metrics)
    text = metrics.text({}, {})
    assert not re.search(r"^arriero_request_(joules|money)", text, re.MULTILINE)
    told = biller.told(Bill(1.0, 1.0))
    assert told["energy"]["value"] is None
    assert told["energy"]["source"]


# ---------------------------------------------------------------- metrics


def test_labels_are_escaped_and_bounded() -> None:
    counter = Counter("x_total", "X.")
    counter.add(path='a"b\\c\nd')
    assert list(counter.lines()) == ['x_total{path="a\\"b\\\\c\\nd"} 1']
    for number in range(1000):
        counter.add(path=str(number))
    assert len(list(counter.lines())) <= 257
    assert counter.value(path="other") > 700


def test_histograms_are_cumulative() -> None:
    histogram = Histogram("x", "X.", (1, 2))
    for value in (0.5, 1, 1.5, 9):
        histogram.observe(value)
    assert list(histogram.lines()) == [
        'x_bucket{le="1"} 2', 'x_bucket{le="2"} 3', 'x_bucket{le="+Inf"} 4', "x_sum 12", "x_count 4",
    ]  # fmt: skip
    assert histogram.mean == 3


# ---------------------------------------------------------------- tickets


def ticket(n: int = 1, seconds: float = 60.0) -> Ticket:
    return Ticket([Request([1], Sampling(max_tokens=10), n=n)], seconds)


def read(found: Ticket) -> list[Any]:
    async def all_of_it() -> list[Any]:
        return [piece async for piece in found]

    return asyncio.run(all_of_it())


def test_a_slow_reader_gets_all_of_the_text_in_bounded_memory() -> None:
    found = ticket(n=2)
    for number in range(10_000):
        found.put(number % 2, Event(1, 5, "ab"[number % 2], index=number % 2))
    assert len(found._pieces) <= MERGE_FROM + 2
    for index in range(2):
        found.put(index, Event(1, None, "", finish_reason="stop", index=index))
    pieces = read(found)
    for index, text in enumerate("ab"):
        assert "".join(p.text for p in pieces if p.index == index) == text * 5000
        assert sum(p.tokens for p in pieces if p.index == index) == 5000


def test_too_many_unread_logprobs_end_the_answer() -> None:
    found = ticket()
    for _ in range(MAX_UNREAD_STEPS + 1):
        found.put(0, Event(1, 5, "a", -1.0))
    with pytest.raises(ApiError, match="too slowly"):
        read(found)
    assert not found._pieces


def test_the_time_limit() -> None:
    with pytest.raises(ApiError) as late:
        read(ticket(seconds=0.05))
    assert (late.value.status, late.value.code) == (503, "time_limit")
    begun = ticket(n=2, seconds=0.05)
    begun.put(1, Event(1, 5, "a", index=1))
    pieces = read(begun)
    assert [(p.index, p.text, p.finish_reason) for p in pieces] == [
        (1, "a", None), (0, "", "length"), (1, "", "length"),
    ]  # fmt: skip
    done = ticket(seconds=0.0)
    done.put(0, Event(1, 5, "a", finish_reason="stop"))
    assert [p.finish_reason for p in read(done)] == ["stop"]


def test_an_error_of_one_answer_is_the_request_s() -> None:
    found = ticket()
    found.put(0, Event(1, None, "", finish_reason="error", error="the grammar leaves no token"))
    with pytest.raises(ApiError, match="leaves no token"):
        read(found)
