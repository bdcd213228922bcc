"""What is recorded, what a replay reads and writes, and what goes another way; with a recorder that needs no device."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from arriero.inference.cuda.graphs import (
    LEAST_WIDTH,
    SIZES,
    CaptureError,
    CudaCapture,
    DecodeGraphs,
    Inputs,
    Work,
)
from arriero.inference.kv_pool import BLOCK
from arriero.inference.rows import Rows


class Recorder:
    """Stands for CUDA graphs: a replay reads and writes the very memory of the recording."""

    def __init__(self) -> None:
        self.recordings = self.replays = 0

    def __call__(self, work: Work) -> tuple[Callable[[], None], Tensor]:
        self.recordings += 1
        result = work()

        def replay() -> None:
            self.replays += 1
            result.copy_(work())

        return replay, result


class Step:
    """Logits that tell what was read: id, position, tokens seen, sum of the blocks."""

    def __init__(self) -> None:
        self.seen: list[Inputs] = []

    def __call__(self, inputs: Inputs) -> Tensor:
        self.seen.append(inputs)
        places = inputs.places()
        columns = (inputs.ids[0], inputs.positions[0], places.lengths, places.tables.sum(1))
        return torch.stack([c.float() for c in columns], 1)


def decode(lengths: list[int]) -> Rows:
    rows = Rows()
    for n, length in enumerate(lengths):
        # one block more than is needed, as the engine may have given: it must not be read
        rows.add([10 + n], length, [*range(1, length // BLOCK + 2), 10**6], [0])
    return rows


def expected(lengths: list[int]) -> Tensor:
    lines = [[10 + n, s, s + 1, sum(range(1, s // BLOCK + 2))] for n, s in enumerate(lengths)]
    return torch.tensor(lines).float()


def graphs_of(context: int = 4096) -> tuple[DecodeGraphs, Recorder, Step]:
    recorder, step = Recorder(), Step()
    return DecodeGraphs(step, recorder, context, 4, "cpu"), recorder, step


def test_replays_read_the_new_rows_out_of_the_same_memory() -> None:
    graphs, recorder, step = graphs_of()
    kept = graphs.run(decode([5, 70, 128]))
    state = step.seen[0].state.data_ptr()
    assert torch.equal(kept, expected([5, 70, 128]))
    for lengths in ([64, 3, 9], [1, 2, 3, 4], [0, 511, 5]):
        assert torch.equal(graphs.run(decode(lengths)), expected(lengths))
    assert (recorder.recordings, recorder.replays) == (1, 4)
    assert {inputs.state.data_ptr() for inputs in step.seen} == {state}
    assert torch.equal(kept, expected([5, 70, 128]))  # what was given is not written over


def test_rows_that_fill_up_store_and_see_nothing() -> None:
    graphs, _, step = graphs_of()
    graphs.run(decode([5, 6, 7, 8, 9]))
    assert step.seen[0].state.shape == (8, 3 + LEAST_WIDTH)
    assert step.seen[-1].places().lengths.tolist() == [6, 7, 8, 9, 10, 0, 0, 0]
    graphs.run(decode([5, 6, 7, 8, 9, 10, 11]))
    graphs.run(decode([5, 6, 7, 8, 9]))
    assert step.seen[-1].state[5:].eq(0).all()  # nothing is left of the fuller step before


def test_nothing_is_stored_while_a_step_is_recorded() -> None:
    seen: list[list[int]] = []

    def capture(work: Work) -> tuple[Callable[[], object], Tensor]:
        return (lambda: seen.append([])), work()

    def step(inputs: Inputs) -> Tensor:
        seen.append(inputs.places().lengths.tolist())
        return torch.zeros(len(inputs.state), 4)

    DecodeGraphs(step, capture, 4096, 4, "cpu").run(decode([5, 6]))
    assert seen == [[0, 0], []]


def test_steps_are_recorded_by_rows_and_width() -> None:
    graphs, recorder, _ = graphs_of(context=100 * BLOCK)
    for count in (1, 2, 3, 4, 5, 8, 9, 256):
        graphs.run(decode([1] * count))
    assert recorder.recordings == len(graphs) == 6  # 1, 2, 4, 8, 16, 256
    for blocks, new in ((8, 0), (9, 1), (16, 0), (17, 1), (65, 1), (100, 0)):
        before = recorder.recordings
        lengths = [blocks * BLOCK - 1]
        assert torch.equal(graphs.run(decode(lengths)), expected(lengths))
        assert recorder.recordings - before == new, blocks
    graphs.clear()
    graphs.run(decode([1]))
    assert len(graphs) == 1


def test_a_context_shorter_than_the_narrowest_step() -> None:
    graphs, _, step = graphs_of(context=2 * BLOCK)
    assert torch.equal(graphs.run(decode([2 * BLOCK - 1])), expected([2 * BLOCK - 1]))
    assert step.seen[0].state.shape == (1, 3 + 2)


def test_what_is_not_recorded() -> None:
    assert DecodeGraphs.takes(decode([3, 4]))
    assert DecodeGraphs.takes(decode([3] * SIZES[-1]))
    assert not DecodeGraphs.takes(decode([3] * (SIZES[-1] + 1)))
    assert not DecodeGraphs.takes(Rows())
    for ids, wanted, adapter in (([1, 2], [0, 1], None), ([1], [], None), ([1], [0], "a")):
        rows = decode([3])
        rows.add(ids, 0, [1], wanted, adapter)
        assert not DecodeGraphs.takes(rows)


def test_a_step_that_cannot_be_recorded() -> None:
    def fails(work: Work) -> tuple[Callable[[], object], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs = DecodeGraphs(Step(), fails, 4096, 4, "cpu")
    with pytest.raises(CaptureError, match="2 rows cannot be recorded: operation not permitted"):
        graphs.run(decode([3, 4]))
    assert not len(graphs)


def test_the_order_of_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    inspect.signature(torch.cuda.graph).bind(None, pool=1, capture_error_mode="thread_local")

    class Stream:
        def __init__(self, name: str = "aside") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            told.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            told.append("replay")

    @contextmanager
    def within(stream: Stream) -> Iterator[None]:
        told.append(f"on {stream.name}")
        yield
        told.append(f"off {stream.name}")

    @contextmanager
    def recording(graph: Graph, *, pool: str, capture_error_mode: str) -> Iterator[None]:
        told.append(f"record into {pool}")
        yield
        told.append("recorded")

    main = Stream("main")
    stand_ins: dict[str, Any] = {
        "Stream": Stream, "stream": within, "current_stream": lambda: main, "CUDAGraph": Graph, "graph": recording,
        "graph_pool_handle": lambda: "pool",
    }  # fmt: skip
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)

    def work() -> Tensor:
        told.append("work")
        return torch.tensor([len(told)])

    replay, result = CudaCapture()(work)
    replay()
    assert told == [
        "aside waits for main", "on aside", "work", "work", "off aside", "main waits for aside",
        "record into pool", "work", "recorded", "replay",
    ]  # fmt: skip
    assert result.item() == 8  # that of the recorded run
