"""What collectives give in a group of processes that do not exist."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.distributed import _functional_collectives as collectives

from arriero.cost.trace import trace
from arriero.errors import ArrieroError
from arriero.planning.memory.fake_group import fake_group


@pytest.mark.filterwarnings(
    "ignore:.*all_gather_tensor:FutureWarning"
)  # whose new name torch 2.11 does not know
def test_waiting_for_a_collective_takes_no_memory() -> None:
    with fake_group(4, 1):
        found = trace(
            lambda: [torch.zeros(1024)],
            lambda state: collectives.all_gather_tensor(state[0], 0, dist.group.WORLD),
        )
    assert (found.state_bytes, found.peak_bytes) == (4096, 4096 + 4 * 4096), "the part and the whole, once"


def test_torch_is_as_it_was_afterwards() -> None:
    before = collectives.wait_tensor
    with pytest.raises(ZeroDivisionError), fake_group(2, 0):
        assert collectives.wait_tensor is not before
        raise ZeroDivisionError
    assert collectives.wait_tensor is before and not dist.is_initialized()


def test_there_is_one_group_at_a_time() -> None:
    with fake_group(2, 0), pytest.raises(ArrieroError, match="in one already"), fake_group(2, 0):
        pass
    assert not dist.is_initialized()
