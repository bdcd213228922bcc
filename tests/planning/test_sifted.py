"""Sifting plans by one process's trace, and holding the chosen one to the trace of its own group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from arriero.cost.cut import Cut
from arriero.cost.memory import device_memory
from arriero.cost.search.columns import Plans
from arriero.cost.workload import Workload
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.workload import workload_of
from arriero.planning.goal.settle import settled
from arriero.planning.memory.kept import KeptProfiles
from arriero.planning.memory.sifted import opened, sifted

CONFIG = DecoderConfig(
    vocab_size=128, d_model=32, n_layers=1, n_heads=2, n_kv_heads=2, head_dim=16, d_ff=48, context_length=32
)
FSDP = Cut(data=4, zero=3)


@pytest.fixture
def workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workload:
    monkeypatch.setenv("ARRIERO_HOME", str(tmp_path))
    return workload_of(CONFIG, context=32, modes=("none",))


def bytes_of(workload: Workload, cut: Cut) -> np.ndarray:
    return np.asarray(device_memory(workload, cut, micro_batch=2, recompute="none").allocated)


def test_nothing_is_traced_before_it_is_chosen(workload: Workload) -> None:
    kept, sieve = workload.memory, sifted(workload)
    assert isinstance(kept, KeptProfiles)
    rough = bytes_of(sieve, FSDP)
    assert not kept._parts
    assert opened(sieve, FSDP, 2, "none", 1)
    assert not opened(sieve, FSDP, 2, "none", 1)
    assert bytes_of(sieve, FSDP) == bytes_of(workload, FSDP) != rough
    # of eight the same two are traced
    assert not opened(sieve, Cut(data=8, zero=3), 2, "none", 1)
    assert opened(sieve, Cut(data=8), 2, "none", 1)


def test_the_chosen_plan_rests_on_its_own_trace(workload: Workload) -> None:
    """Two layouts of four devices: that which seems smaller is chosen, traced, and kept only if it still is."""
    columns = {name: np.ones(2, dtype=np.int64) for name in Plans.__dataclass_fields__}
    columns |= {"hardware": np.zeros(2, dtype=np.int64), "variant": np.zeros(2, dtype=np.int64)}
    columns |= {
        "recompute": np.zeros(2, dtype=np.int64),
        "micro_batch": np.full(2, 2),
        "data": np.array([4, 4]),
    }
    plans = Plans(**columns | {"zero": np.array([3, 0])})
    asked: list[tuple[int, float]] = []

    def search(workloads: list[Workload]) -> tuple[int, int | None]:
        found = bytes_of(workloads[0], plans.cut)
        row = int(found.argmin())
        asked.append((row, float(found[row])))
        return row, row

    chosen = settled(plans, [workload], search)
    exact = bytes_of(workload, plans.cut)
    assert chosen == exact.argmin() == 0
    assert asked[-1] == (0, exact[0]) != asked[0]
    assert settled(plans, [workload], lambda workloads: (7, None)) == 7
