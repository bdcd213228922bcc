"""What requests for vectors cost: shared by their tokens, told in the usage, counted as those for answers are."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arriero.cost.counters import Counters
from arriero.cost.tariffs import Machine, Tariffs
from arriero.inference.encoder_request import EncoderEvent, EncoderInput, EncoderRequest
from arriero.serving.bill import Biller
from arriero.serving.desk import Answered, EncoderDesk
from arriero.serving.errors import ApiError
from arriero.serving.metrics import Metrics


class Clock:
    """Seconds of the wall and of the processor, moved by the test."""

    def __init__(self) -> None:
        self.wall = self.cpu = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("arriero.serving.bill.time.monotonic", lambda: clock.wall)
    monkeypatch.setattr("arriero.serving.bill.time.process_time", lambda: clock.cpu)
    return clock


class Scripted:
    """An engine whose steps are said beforehand: tokens that each request's share has, and which end."""

    def __init__(self, clock: Clock, steps: list[tuple[float, dict[int, int], list[int]]]) -> None:
        self._clock, self._steps = clock, steps
        self._count = 0
        self.open: set[int] = set()
        self.last_step: dict[int, int] = {}
        self.max_waiting = 0

    def check(self, request: EncoderRequest) -> None:
        pass

    def submit(self, request: EncoderRequest) -> int:
        self._count += 1
        self.open.add(self._count)
        return self._count

    def abort(self, number: int) -> None:
        self.open.discard(number)

    @property
    def idle(self) -> bool:
        return not self.open

    def step(self) -> list[EncoderEvent]:
        seconds, self.last_step, done = self._steps.pop(0)
        self._clock.wall += seconds
        self._clock.cpu += seconds / 2
        if not done:
            return []
        if done == [0]:
            raise RuntimeError("a fault")
        self.open -= set(done)
        return [EncoderEvent(number, [np.zeros(2)], "stop") for number in done]


def asked(tokens: int) -> EncoderRequest:
    return EncoderRequest("embed", (EncoderInput(tuple([1] * tokens)),))


def biller_of(costs: dict[str, Any]) -> Biller:
    return Biller(Tariffs.load(costs), machine=Machine("some cpu", 4, 4), counters=Counters())


def answer_all(desk: EncoderDesk, biller: Biller, tokens: list[int]) -> list[Any]:
    """Results of requests of so many tokens each, the engine's thread being this one."""

    async def ask() -> list[Any]:
        def do(work: Callable[[], None]) -> None:
            work()

        asking = [asyncio.ensure_future(desk.run(asked(count), do)) for count in tokens]
        await asyncio.sleep(0)
        biller.begin()
        while not desk.idle:
            desk.step()
        return await asyncio.gather(*asking, return_exceptions=True)

    return asyncio.run(ask())


def test_a_hand_computed_case(clock: Clock) -> None:
    """Two requests share the first step 3 : 1 by their tokens, the second has the next step alone."""
    steps = [(4.0, {1: 300, 2: 100}, [1]), (1.0, {2: 50}, [2])]
    engine: Any = Scripted(clock, steps)
    desk, metrics = EncoderDesk(engine, "some"), Metrics()
    biller = biller_of({"watts": 10, "price_per_hour": 36, "currency": "EUR"})
    desk.bill_to(biller, metrics)
    first, second = answer_all(desk, biller, [300, 150])
    assert isinstance(first, Answered) and isinstance(second, Answered)
    assert (first.bill.wall_seconds, first.bill.cpu_seconds) == (3.0, 1.5)
    assert (second.bill.wall_seconds, second.bill.cpu_seconds) == (2.0, 1.0)
    told = biller.told(first.bill)
    assert told["energy"]["value"] == pytest.approx(30.0) and told["energy"]["unit"] == "J"
    assert told["money"]["value"] == pytest.approx(3.0 / 3600 * 36) and told["money"]["unit"] == "EUR"
    text = metrics.text({}, {})
    assert metrics.joules.value(basis="declared") == pytest.approx(50.0)
    assert metrics.money.value(currency="EUR", basis=told["money"]["basis"]) == pytest.approx(0.05)
    assert 'arriero_request_joules_count{basis="declared"} 2' in text


def test_what_was_done_before_a_fault_is_billed(clock: Clock) -> None:
    engine: Any = Scripted(clock, [(1.0, {1: 10}, []), (2.0, {1: 10}, [0])])
    desk, metrics = EncoderDesk(engine, "some"), Metrics()
    biller = biller_of({"watts": 10})
    desk.bill_to(biller, metrics)
    (error,) = answer_all(desk, biller, [20])
    assert isinstance(error, ApiError) and error.status == 500
    assert metrics.joules.value(basis="declared") == pytest.approx(30.0)


def test_without_a_biller_nothing_is_counted(clock: Clock) -> None:
    engine: Any = Scripted(clock, [(1.0, {1: 10}, [1])])
    (answered,) = answer_all(EncoderDesk(engine, "some"), biller_of({}), [10])
    assert answered.bill.wall_seconds == 0


def figures(server: Any, name: str) -> float:
    found = re.findall(rf"^{re.escape(name)} (.+)$", server.http.get("/metrics").text, re.MULTILINE)
    return float(found[0]) if found else 0.0


def test_vectors_and_answers_are_billed_in_one_way(start: Any) -> None:
    server = start(costs={"watts": 100, "price_per_hour": 36, "currency": "EUR"})
    body = {"model": "tiny", "input": ["x" * 300, "y" * 50], "include_cost": True}
    usage = server.http.post("/v1/embeddings", json=body).json()["usage"]
    chat = server.chat(include_cost=True).json()["usage"]
    assert usage["cost"].keys() == chat["cost"].keys()
    for cost in (usage["cost"], chat["cost"]):
        assert cost["seconds"] > 0
        assert cost["energy"]["value"] == pytest.approx(cost["seconds"] * 100)
        assert cost["money"]["value"] == pytest.approx(cost["seconds"] / 100)
    for kind in ("energy", "money"):
        assert {k: usage["cost"][kind][k] for k in ("unit", "basis", "source")} == {
            k: chat["cost"][kind][k] for k in ("unit", "basis", "source")
        }
    deadline = time.monotonic() + 30
    while figures(server, 'arriero_request_joules_count{basis="declared"}') < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    whole = usage["cost"]["energy"]["value"] + chat["cost"]["energy"]["value"]
    assert figures(server, 'arriero_request_joules_total{basis="declared"}') == pytest.approx(whole)
    assert (
        "cost" not in server.http.post("/v1/embeddings", json={"model": "tiny", "input": "a"}).json()["usage"]
    )
    assert server.http.post("/v1/embeddings", json=body | {"include_cost": 1}).status_code == 400
