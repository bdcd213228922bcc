"""The team of threads: every part once, from any thread, in a child too."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections import Counter

import pytest
import torch

from arriero.native import library
from arriero.native.linear import linear
from arriero.native.matrices import NativeMatrix, low_bit

pytestmark = pytest.mark.usefixtures("native")
BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)


def a_matrix(n: int = 64, k: int = 64) -> NativeMatrix:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(-8, 8, (n, k), generator=generator, dtype=torch.int8)
    return low_bit(codes, torch.rand(n, k // 32, generator=generator), 4)


def an_input(m: int = 3, k: int = 64) -> torch.Tensor:
    return torch.randn(m, k, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 2, 1])
def test_every_part_runs_once(threads: int) -> None:
    seen: list[tuple[int, int]] = []
    library.set_threads(threads)
    library.library().ar_parallel(BODY(lambda _, part, parts: seen.append((part, parts))), None)
    assert sorted(seen) == [(part, threads) for part in range(threads)]


def test_a_call_from_a_body_runs_alone() -> None:
    inner: list[tuple[int, int]] = []
    native = library.library()
    note = BODY(lambda _, part, parts: inner.append((part, parts)))
    library.set_threads(3)
    native.ar_parallel(BODY(lambda _, part, parts: native.ar_parallel(note, None)), None)
    assert inner == [(0, 1)] * 3


def test_many_short_calls() -> None:
    matrix, x = a_matrix(), an_input()
    expected = linear(x, matrix)
    for i in range(3000):
        if i % 100 == 0:
            torch.set_num_threads(1 + i // 100 % 4)
        assert torch.equal(linear(x, matrix), expected)


def test_calls_from_several_threads_at_once() -> None:
    matrix = a_matrix(256, 256)
    torch.set_num_threads(2)
    results: Counter[bool] = Counter()
    lock = threading.Lock()

    def work(rows: int) -> None:
        torch.set_num_threads(2)
        x = an_input(rows, 256)
        expected = linear(x, matrix)
        right = sum(torch.equal(linear(x, matrix), expected) for _ in range(200))
        with lock:
            results[True] += right
            results[False] += 200 - right

    threads = [threading.Thread(target=work, args=(rows,)) for rows in (1, 2, 5, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {True: 800, False: 0} or results == {True: 800}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_has_a_team_of_its_own() -> None:
    matrix, x = a_matrix(), an_input()
    torch.set_num_threads(3)
    expected = linear(x, matrix)  # the team is there
    for _ in range(5):
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # a child that hangs is killed
            right = all(torch.equal(linear(x, matrix), expected) for _ in range(20))
            os._exit(0 if right else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert torch.equal(linear(x, matrix), expected), "the parent's team goes on"
