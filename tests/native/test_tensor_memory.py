"""Tensors in an address range of their own: nothing overlaps, what is freed is used again, and without it all goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.native.tensor_memory import COMPILERS, SWITCH, TensorMemory, install

HEADER, ALIGNMENT, LEAST = 64, 64, 16 * 1024
MIB = 2**20

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not any(map(shutil.which, COMPILERS)), reason="no C++ compiler"
)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TensorMemory]:
    found = install(tmp_path_factory.mktemp("compiled"))
    assert found is not None
    yield found


def taken(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT + HEADER if size >= LEAST else 0


def buffer(size: int, value: int) -> torch.Tensor:
    return torch.full((size,), value, dtype=torch.uint8)


@given(
    st.lists(
        st.one_of(
            st.integers(1, 4 * LEAST), st.integers(LEAST - 2, LEAST + 2), st.integers(1, 3 * MIB),
            st.integers(-20, -1),  # free the tensor that was made so many before, if it still lives
        ),
        max_size=60,
    )
)  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_tensors_keep_what_was_written(memory: TensorMemory, story: list[int]) -> None:
    before = memory.live
    alive: list[tuple[int, torch.Tensor]] = []
    for number, event in enumerate(story):
        if event > 0:
            value = number % 251
            alive.append((value, buffer(event, value)))
            assert alive[-1][1].data_ptr() % ALIGNMENT == 0
        elif len(alive) >= -event:
            del alive[event]
        assert memory.live - before == sum(taken(tensor.numel()) for _, tensor in alive)
    assert all(bool((tensor == value).all()) for value, tensor in alive)
    places = sorted((tensor.data_ptr(), tensor.numel()) for _, tensor in alive)
    assert all(a + size <= b for (a, size), (b, _) in pairwise(places))
    alive.clear()
    assert memory.live == before


def test_a_freed_tensor_is_room_for_the_next_of_its_size(memory: TensorMemory) -> None:
    """What the C library's heap does not manage: small objects that outlive a tensor settle beside it."""
    tensors = [buffer(5 * MIB + 8, 1) for _ in range(12)]
    extent, small = memory.extent, []
    for _ in range(40):
        for place in range(0, len(tensors), 2):
            tensors[place] = torch.empty(0)
            small.append([torch.empty(17), object(), bytearray(96)])
            tensors[place] = buffer(5 * MIB + 8, 2)
    assert memory.extent <= extent + taken(5 * MIB + 8)
    assert len(small) == 240


def test_freed_neighbours_are_joined(memory: TensorMemory) -> None:
    tensors = [buffer(7 * MIB, 1) for _ in range(6)]
    last, extent = buffer(MIB, 1), memory.extent
    del tensors[1:5]
    whole = buffer(4 * (7 * MIB + HEADER) - HEADER, 3)
    assert memory.extent == extent and bool((whole == 3).all()) and bool((last == 1).all())


def test_threads_share_it(memory: TensorMemory) -> None:
    before = memory.live

    def work(value: int) -> bool:
        kept: list[torch.Tensor] = []
        for turn in range(200):
            kept.append(buffer(LEAST + 997 * (turn % 50), value))
            if len(kept) > 7:
                assert bool((kept.pop(turn % 7) == value).all())
        return all(bool((tensor == value).all()) for tensor in kept)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert memory.live == before


def test_more_than_there_is(memory: TensorMemory) -> None:
    with pytest.raises(RuntimeError, match="not enough memory: you tried to allocate 1125899906842624 bytes"):
        torch.empty(2**50, dtype=torch.uint8)
    assert bool((buffer(MIB, 5) == 5).all())


def test_storages_grow_and_are_shared(memory: TensorMemory) -> None:
    x = buffer(LEAST, 4)
    x.untyped_storage().resize_(3 * MIB)
    assert bool((x == 4).all()) and memory.live >= taken(3 * MIB)
    shared = x.clone().share_memory_()
    assert torch.equal(shared, x)


_SCRIPT = """
import os, sys
from pathlib import Path
{before}
import torch
from arriero.cost.procfs import resident_bytes
from arriero.native.tensor_memory import install
found = install(Path(sys.argv[1]))
{after}
"""


def run(folder: Path, after: str, before: str = "", **environment: str) -> str:
    script = _SCRIPT.format(before=before, after=after)
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_compiled_once(memory: TensorMemory, tmp_path: Path) -> None:
    assert run(tmp_path, "print(found is not None)") == "True"
    (library,) = tmp_path.iterdir()
    written = library.stat().st_mtime_ns
    assert run(tmp_path, "print(found is not None)", CXX="no-such-compiler") == "True"
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [written]


@pytest.mark.parametrize("switch", [{"CXX": "no-such-compiler"}, {SWITCH: "0"}, {"ARRIERO_NATIVE": "0"}])
def test_without_it_tensors_stay_where_they_were(tmp_path: Path, switch: dict[str, str]) -> None:
    assert run(tmp_path, "print(found, int(torch.ones(2**20).sum()))", **switch) == "None 1048576"
    assert not list(tmp_path.glob("*.so"))


def test_little_address_space(memory: TensorMemory, tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))"
    assert run(tmp_path, "print(found, int(torch.ones(2**20).sum()))", limit) == "None 1048576"


def test_half_a_library_is_compiled_again(memory: TensorMemory, tmp_path: Path) -> None:
    run(tmp_path, "")
    (library,) = tmp_path.glob("*.so")
    whole = library.read_bytes()
    library.write_bytes(whole[:1000])
    assert run(tmp_path, "print(found is not None)") == "True"
    assert library.read_bytes() == whole
    library.write_bytes(whole[:1000])
    assert run(tmp_path, "print(found)", CXX="no-such-compiler") == "None"


def test_pages_go_back_to_the_system(memory: TensorMemory, tmp_path: Path) -> None:
    after = """
tensors = [torch.ones(2**20) for _ in range(64)]
kept = tensors[1::2]
del tensors
full = resident_bytes()
found.trim()
print(full - resident_bytes(), all(bool((t == 1).all()) for t in kept))
"""
    freed, whole = run(tmp_path, after).split()
    assert 100 * MIB < int(freed) < 140 * MIB and whole == "True"


def test_a_forked_child_goes_on(memory: TensorMemory, tmp_path: Path) -> None:
    after = """
import threading
stop = threading.Event()
def busy():
    while not stop.is_set():
        torch.empty(2**18)
threads = [threading.Thread(target=busy) for _ in range(3)]
[t.start() for t in threads]
for _ in range(50):
    child = os.fork()
    if not child:
        os._exit(0 if torch.empty(2**18).fill_(3)[-1] == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
print("well")
"""
    assert run(tmp_path, after) == "well"
