"""The scheduler alone, on sequences that are only lists of tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool, blocks_of
from arriero.inference.prefix_cache import PrefixCache
from arriero.inference.scheduler import Piece, Reserve, Scheduler, Task


class Tokens:
    """As much of a sequence as the scheduler knows. Each has tokens of its own, so that nothing is shared by chance."""

    def __init__(self, name: int, prompt: int, answer: int, scored: bool = False) -> None:
        self.ids = [name] * prompt
        self.name, self.prompt_length, self.max_tokens = name, prompt, answer
        self.reserved = prompt + answer
        self.unscored = prompt if scored else 0

    @property
    def wants_prompt_logits(self) -> bool:
        return self.unscored > 0

    @property
    def done(self) -> bool:
        return len(self.ids) == self.reserved


def task_of(number: int, prompt: int, answer: int, scored: bool = False) -> Task:
    sequence: Any = Tokens(number, prompt, answer, scored)
    return Task(number, sequence)


def scheduler_of(
    blocks: int,
    *,
    batch: int = 4,
    budget: int = 16,
    reserve: Reserve = "grow",
    cached: bool = True,
    rows: int = 99,
) -> Scheduler:
    pool = KVPool(CacheShape(1, 1, 1), blocks * BLOCK)
    return Scheduler(PrefixCache(pool, cached), batch, budget, reserve, rows)


def run(scheduler: Scheduler, pieces: list[Piece]) -> list[Task]:
    """Do what a step would do; those that ended."""
    ended = []
    for piece in pieces:
        task, sequence = piece.task, piece.task.sequence
        assert len(task.blocks) >= blocks_of(task.stored + piece.count)
        if isinstance(sequence, Tokens):
            sequence.unscored = max(0, sequence.unscored - piece.count)
        scheduler.stored(task, piece.count)
        if not task.pending:
            sequence.ids.append(7)
            if len(sequence.ids) == sequence.reserved:
                scheduler.remove(task)
                ended.append(task)
    return ended


def check(scheduler: Scheduler) -> None:
    tasks = [*scheduler.running, *scheduler.waiting]
    scheduler.cache.pool.check([scheduler.cache.blocks, *(t.blocks for t in tasks)])
    assert len(scheduler.running) <= scheduler.max_running
    assert [t.number for t in scheduler.running] == sorted(t.number for t in scheduler.running)


JOBS = st.lists(st.tuples(st.integers(1, 200), st.integers(1, 150), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=120, deadline=None)
@given(
    jobs=JOBS, blocks=st.integers(6, 14), batch=st.integers(1, 6), budget=st.integers(1, 200),
    reserve=st.sampled_from(["all", "grow"]), cached=st.booleans(), rows=st.integers(1, 50), together=st.integers(1, 12),
)  # fmt: skip
def test_budget_places_and_progress(
    jobs: list[tuple[int, int, bool]], blocks: int, batch: int, budget: int, reserve: Reserve,
    cached: bool, rows: int, together: int,
) -> None:  # fmt: skip
    scheduler = scheduler_of(blocks, batch=batch, budget=budget, reserve=reserve, cached=cached, rows=rows)
    coming = [task_of(i, *job) for i, job in enumerate(jobs)]
    ended: list[Task] = []
    work = sum(prompt + answer for prompt, answer, _ in jobs)
    steps, expected = 0, len(coming)
    while len(ended) < expected:
        for task in coming[:together]:
            scheduler.add(task)
        del coming[:together]
        pieces = scheduler.plan()
        check(scheduler)
        assert pieces
        assert 0 < sum(p.count for p in pieces) <= budget
        assert len({p.task for p in pieces}) == len(pieces)
        assert all(p.task in scheduler.running and 0 < p.count <= p.task.pending for p in pieces)
        assert sum(p.count for p in pieces if p.task.fresh) <= rows
        served = {p.task for p in pieces}
        assert {t for t in scheduler.running if t.answering} <= served  # every running answer gets its token
        oldest = next((t for t in scheduler.running if not t.answering), None)
        assert oldest is None or oldest in served
        assert scheduler.running[0] in served
        ended += run(scheduler, pieces)
        check(scheduler)
        steps += 1
        assert steps < 40 * work, "somebody starves"
    assert scheduler.cache.in_use == 0
    if reserve == "all":
        assert scheduler.preemptions == 0


def test_an_admitted_one_alone_may_fill_the_pool() -> None:
    for reserve in ("all", "grow"):
        scheduler = scheduler_of(2, reserve=reserve)
        scheduler.add(task_of(0, 100, 28))
        while scheduler.running or scheduler.waiting:
            run(scheduler, scheduler.plan())
        assert scheduler.preemptions == 0


def test_the_youngest_gives_way_and_comes_back() -> None:
    scheduler = scheduler_of(3, budget=200)
    for number in range(2):
        scheduler.add(task_of(number, 60, 120))
    ended: list[Task] = []
    while len(ended) < 2:
        ended += run(scheduler, scheduler.plan())
        check(scheduler)
    assert [t.number for t in ended] == [0, 1]
    assert scheduler.preemptions > 0


def test_first_come_first_served_and_no_overtaking() -> None:
    scheduler = scheduler_of(3, reserve="all", budget=200)
    for number, (prompt, answer) in enumerate([(100, 20), (150, 10), (5, 5)]):
        scheduler.add(task_of(number, prompt, answer))
    scheduler.plan()
    assert [t.number for t in scheduler.running] == [0]  # the third would fit, but is behind the second


def test_a_short_prompt_starts_at_once_beside_a_long_one() -> None:
    scheduler = scheduler_of(40, budget=20)
    scheduler.add(task_of(0, 2000, 5))
    run(scheduler, scheduler.plan())
    scheduler.add(task_of(1, 6, 5))
    pieces = {p.task.number: p.count for p in scheduler.plan()}
    assert pieces == {0: 14, 1: 6}


def test_a_stream_of_short_prompts_does_not_hold_up_a_long_one() -> None:
    scheduler = scheduler_of(60, budget=20, batch=8)
    scheduler.add(task_of(0, 1000, 2))
    steps, ended = 0, set[int]()
    while 0 not in ended:
        scheduler.add(task_of(1 + 2 * steps, 30, 1))
        scheduler.add(task_of(2 + 2 * steps, 30, 1))
        ended |= {t.number for t in run(scheduler, scheduler.plan())}
        steps += 1
    assert steps <= 1000 // 10 + 2
    assert len(ended) > 20  # and they were served meanwhile


def test_followers_share_the_prompt_and_copy_its_last_block() -> None:
    scheduler = scheduler_of(10, budget=200)
    tasks = [task_of(i, 100, 5) for i in range(3)]
    for task in tasks:
        task.sequence.ids[:] = [1] * 100
        scheduler.add(task)
    tasks[0].followers = tasks[1:]
    for task in tasks[1:]:
        task.leader = tasks[0]
    pieces = scheduler.plan()
    assert [p.task for p in pieces] == [tasks[0]]
    pool = scheduler.cache.pool
    scheduler.stored(tasks[0], 100)
    pool.keys[0, tasks[0].blocks[1], 0, :36, 0] = 5.0
    assert scheduler.fork(tasks[0]) == tasks[1:]
    assert len({t.blocks[0] for t in tasks}) == 1
    assert len({t.blocks[1] for t in tasks}) == 3
    assert all(pool.keys[0, t.blocks[1], 0, :36, 0].eq(5).all() for t in tasks)
    check(scheduler)
    for task in tasks:
        task.sequence.ids.append(7)
        scheduler.remove(task)
    assert scheduler.cache.in_use == 0


def test_followers_of_a_leader_that_is_gone_read_for_themselves() -> None:
    scheduler = scheduler_of(10, batch=2, budget=200)
    tasks = [task_of(i, 100, 5) for i in range(4)]
    for task in tasks:
        scheduler.add(task)
    tasks[0].followers = tasks[1:]
    for task in tasks[1:]:
        task.leader = tasks[0]
    scheduler.plan()
    scheduler.remove(tasks[0])
    assert len(scheduler.plan()) == 2
    check(scheduler)


def test_guesses_take_what_is_left() -> None:
    scheduler = scheduler_of(2, batch=2, budget=20)
    scheduler.add(task_of(0, 60, 60))
    for _ in range(4):
        run(scheduler, scheduler.plan())
    [piece] = scheduler.plan()
    scheduler.add_guesses(piece, [1, 2, 3, 4, 5, 6, 7], 6)
    assert piece.guesses == [1, 2, 3, 4, 5, 6]
    assert len(piece.task.blocks) == 2
    scheduler.add(task_of(1, 30, 1))
    piece.task.sequence.ids += [3] * 65  # 127 tokens: both blocks are as good as full
    scheduler.add_guesses(piece, [1, 2, 3], 6)
    assert piece.guesses == [1]


@pytest.mark.parametrize("budget", [1, 3])
def test_no_more_run_than_a_step_has_tokens(budget: int) -> None:
    scheduler = scheduler_of(20, batch=8, budget=budget)
    for number in range(6):
        scheduler.add(task_of(number, 3, 4))
    scheduler.plan()
    assert len(scheduler.running) == budget
