"""The watchdog with a child that does what it is told: answers, hangs, dies, stops, eats memory."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from arriero.data.child import watchdog as module
from arriero.data.child.watchdog import DiedError, TooLongError, Watchdog
from arriero.errors import ArrieroError

CHILD = """
import os, signal, time
from arriero.data.child.serve import serve
def answer(data):
    if data == b"hang":
        while True: pass
    if data == b"die":
        os._exit(3)
    if data == b"print":
        print("noise on the channel")
    if data == b"eat":
        try:
            return 0, bytes(2 << 30)
        except MemoryError:
            return 1, b"too much"
    return 0, data[::-1]
def main(memory):
    serve(answer, memory)
"""


@pytest.fixture
def dog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    (tmp_path / "obedient.py").write_text(CHILD)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Watchdog("obedient", (1 << 30,), "does what it is told")
    yield made
    made.close()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 3_000_001])
def test_any_size_goes_both_ways(dog: Watchdog, size: int) -> None:
    data = os.urandom(size)
    assert dog.ask(data, 20) == (0, data[::-1])
    assert dog.ask(b"print", 20) == (0, b"tnirp")


def test_what_ends_the_child_costs_one_request(dog: Watchdog) -> None:
    with pytest.raises(TooLongError) as late:
        dog.ask(b"hang", 0.2)
    assert not late.value.silent
    assert dog.ask(b"ab", 20) == (0, b"ba")
    with pytest.raises(DiedError) as died:
        dog.ask(b"die", 20)
    assert died.value.code == 3
    assert dog.ask(b"eat", 20) == (1, b"too much")
    assert dog.ask(b"ab", 20) == (0, b"ba")


def test_a_stopped_child_does_not_hold_its_parent(dog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    dog.ask(b"", 20)
    assert dog._child is not None
    os.kill(dog._child.pid, signal.SIGSTOP)
    monkeypatch.setattr(module, "_SILENT_SECONDS", 0.5)
    with pytest.raises(TooLongError) as late:
        dog.ask(bytes(8 << 20), 0.1)  # more than the pipe takes
    assert late.value.silent


def test_one_that_does_not_start_is_told() -> None:
    with pytest.raises(ArrieroError, match="that counts sheep does not start: ModuleNotFoundError"):
        Watchdog("no_such_module", (), "counts sheep").ask(b"", 1)
