from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.execute import ExecutorSettings, Task, exchange, make_executor
from arriero.data.execute.exchange import (
    ExchangeWriter,
    exchange_file,
    iter_partition,
    partition_of,
    read_partition,
)
from arriero.errors import ArrieroError, DamagedArtifactError

ROWS = np.dtype([("key", "<u8"), ("row", "<i4"), ("hash", "<u4", (3,))])


def rows(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = np.zeros(count, ROWS)
    found["key"] = rng.integers(0, 2**63, count, dtype=np.uint64)
    found["row"] = np.arange(count)
    found["hash"] = rng.integers(0, 2**32, (count, 3), dtype=np.uint64)
    return found


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(1, 5000))
def test_every_key_has_a_partition(keys: list[int], partitions: int) -> None:
    found = partition_of(np.array(keys, np.uint64), partitions)
    assert found.dtype == np.int64
    assert found.shape == (len(keys),)
    assert all(0 <= partition < partitions for partition in found)


@pytest.mark.parametrize("keys", [np.arange(64_000), np.arange(64_000) << 40, np.arange(64_000) * 64])
def test_uneven_keys_are_spread_evenly(keys: np.ndarray) -> None:
    counts = np.bincount(partition_of(keys.astype(np.uint64), 64), minlength=64)
    assert abs(counts - 1000).max() < 6 * 1000**0.5


def test_partitions_never_change() -> None:
    """Files of an older run are read by a newer one."""
    keys = np.array([0, 1, 2, 2**32, 2**64 - 1], np.uint64)
    # SplitMix64's finaliser in Python's integers
    expected = []
    for key in keys.tolist():
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) % 2**64
        key ^= key >> 31
        expected.append(((key >> 32) * 1000) >> 32)
    assert partition_of(keys, 1000).tolist() == expected


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(0, 9)), max_size=30),
    st.sampled_from([1, 100, 1 << 20]),
    st.randoms(use_true_random=False),
)
def test_what_is_added_is_read(tmp_path_factory, added, buffer: int, order: random.Random) -> None:
    """Any additions by any writers, with any buffer, in any order of closing, against a dictionary."""
    folder = tmp_path_factory.mktemp("exchange")
    before, exchange.BUFFER_BYTES = exchange.BUFFER_BYTES, buffer
    try:
        names = list("abc")
        order.shuffle(names)
        writers = {name: ExchangeWriter(folder, name, 7, ROWS) for name in names}
        expected: dict[tuple[int, str], list[np.ndarray]] = {}
        for number, (name, partition, count) in enumerate(added):
            writers[name].add(partition, rows(count, number))
            expected.setdefault((partition, name), []).append(rows(count, number))
        for writer in writers.values():
            writer.close()
    finally:
        exchange.BUFFER_BYTES = before
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.exchange" for name in "abc"]
    for partition in range(7):
        parts = [part for name in "abc" for part in expected.get((partition, name), [])]
        wanted = np.concatenate(parts) if parts else np.empty(0, ROWS)
        found = read_partition(folder, partition, dtype=ROWS)
        assert found.dtype == ROWS
        assert found.tobytes() == wanted.tobytes()


def test_scatter_keeps_the_order_within_a_partition(tmp_path: Path) -> None:
    given_rows = rows(5000)
    partitions = partition_of(given_rows["key"], 16)
    with ExchangeWriter(tmp_path, "w", 16) as writer:
        for start in range(0, 5000, 700):
            writer.scatter(partitions[start : start + 700], given_rows[start : start + 700])
    for partition in range(16):
        assert np.array_equal(read_partition(tmp_path, partition), given_rows[partitions == partition])


def test_the_file_does_not_depend_on_the_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, buffer in (("a", 1 << 30), ("b", 999)):
        monkeypatch.setattr(exchange, "BUFFER_BYTES", buffer)
        with ExchangeWriter(tmp_path, name, 5) as writer:
            for number in range(40):
                writer.add(number % 5, rows(number, number))
    assert exchange_file(tmp_path, "a").read_bytes() == exchange_file(tmp_path, "b").read_bytes()


def test_writing_holds_no_more_than_its_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "BUFFER_BYTES", 1 << 20)
    one = rows(10_000)  # 240 kB
    tracemalloc.start()
    with ExchangeWriter(tmp_path, "w", 8) as writer:
        for number in range(100):
            writer.add(number % 8, one)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert exchange_file(tmp_path, "w").stat().st_size > 20 << 20
    assert peak < 5 << 20
    assert all(isinstance(found, np.memmap) for _, found in iter_partition(tmp_path, 3))


def test_a_body_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "BUFFER_BYTES", 10)
    with pytest.raises(ZeroDivisionError), ExchangeWriter(tmp_path, "w", 2) as writer:
        writer.add(0, rows(100))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_writers_without_rows(tmp_path: Path) -> None:
    with ExchangeWriter(tmp_path, "a", 3):
        pass
    with ExchangeWriter(tmp_path, "b", 3, ROWS):
        pass
    assert len(read_partition(tmp_path, 0)) == 0
    assert read_partition(tmp_path, 2, ["a", "b"], ROWS).dtype == ROWS
    assert len(read_partition(tmp_path / "absent", 0)) == 0


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with ExchangeWriter(tmp_path, "w", 3) as writer:
        writer.add(1, rows(10))
        with pytest.raises(ValueError, match="do not fit"):
            writer.add(1, np.zeros(3, np.int64))
        with pytest.raises(ValueError, match="partition 3"):
            writer.add(3, rows(1))
        with pytest.raises(ValueError, match="not among the 3"):
            writer.scatter(np.array([0, 5]), rows(2))
    with pytest.raises(ArrieroError, match=r"x\.exchange is missing"):
        read_partition(tmp_path, 0, ["w", "x"])
    with pytest.raises(ArrieroError, match="3 partitions"):
        read_partition(tmp_path, 3)
    path = exchange_file(tmp_path, "w")
    data = path.read_bytes()
    for cut in [*range(0, 130, 7), len(data) - 1]:
        path.write_bytes(data[:cut])
        with pytest.raises(DamagedArtifactError, match=r"w\.exchange is"):
            read_partition(tmp_path, 1)


def test_any_number_of_workers_gives_the_same_exchange(work, tmp_path: Path) -> None:
    names = [f"t{n:02d}" for n in range(9)]
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        tasks = [Task(name, (str(folder), n)) for n, name in enumerate(names)]
        if workers > 1:
            tasks.reverse()
        make_executor(ExecutorSettings(workers=workers)).run(work.exchange, tasks)
    for partition in range(work.PARTITIONS):
        one, three = (read_partition(tmp_path / str(workers), partition, names) for workers in (1, 3))
        assert len(one)
        assert one.tobytes() == three.tobytes()
