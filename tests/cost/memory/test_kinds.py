from __future__ import annotations

import numpy as np
import pytest

from arriero.cost.memory import KINDS, MemoryByKind


def test_the_total_is_the_sum_of_the_kinds_and_the_margin_is_its_own_band() -> None:
    memory = MemoryByKind(**{kind: 10.0**n for n, kind in enumerate(KINDS)}, margin=(5.0, 7.0))
    assert memory.total == 11111111
    assert (memory.low, memory.high) == (11111116, 11111118)
    assert memory.allocated == memory.total - memory.runtime
    assert memory.states == 111


def test_the_table_names_what_is_there_and_nothing_else() -> None:
    rows = MemoryByKind(weights=4e9, logits=2.5e8, margin=(0.0, 1e9)).table()
    assert [name for name, _ in rows] == ["weights", "logits", "allocator margin", "total"]
    assert dict(rows)["weights"] == "4.00 GB"
    assert dict(rows)["total"] == "4.25 GB to 5.25 GB"


def test_one_plan_of_many() -> None:
    memory = MemoryByKind(weights=np.array([1.0, 2.0]), runtime=3.0, margin=(0.0, np.array([0.5, 0.25])))
    assert memory.at(1).total == 5.0
    assert memory.at(1).high == 5.25
    with pytest.raises(TypeError):
        memory.table()
