from __future__ import annotations

import numpy as np
import pytest
from tests.cost.time.examples import a_workload

from arriero.cost.cut import Cut
from arriero.cost.time.traffic import Traffic, stage_traffic, state_traffic
from arriero.cost.time.units import device_parameters
from arriero.cost.workload import Recompute


def floats(traffic: Traffic) -> tuple[float, float, float, float]:
    return tuple(float(part) for part in (traffic.all_reduce, traffic.gather, traffic.network, traffic.hops))  # type: ignore[return-value]


def test_one_device_sends_nothing() -> None:
    assert floats(stage_traffic(a_workload(), Cut(), 4, "full", 8)) == (0, 0, 0, 0)
    assert floats(state_traffic(a_workload(), Cut(zero=3), 4, 8)) == (0, 0, 0, 0)


def test_tensor_parallelism_reduces_hidden_states_four_times_a_block() -> None:
    """Narayanan et al., arXiv 2104.04473, section 3.2: two all-reduces of b s h forward and two backward."""
    work = a_workload()
    found = stage_traffic(work, Cut(tensor=4), 3, "none", 8)
    state = 3 * 512 * 256 * 2
    assert float(found.all_reduce) == pytest.approx(8 * 4 * state * 2 * 3 / 4)
    assert float(found.gather) == float(found.network) == 0
    again = stage_traffic(work, Cut(tensor=4), 3, "full", 8)
    assert float(again.all_reduce) == pytest.approx(1.5 * float(found.all_reduce))


@pytest.mark.parametrize(("recompute", "factor"), [("none", 1.0), ("selective", 1.0), ("full", 1.5)])
def test_a_cut_stream_is_gathered_and_scattered_in_place_of_all_reduces(
    recompute: Recompute, factor: float
) -> None:
    """Korthikanti et al., arXiv 2205.05198, section 4.2.2, who hide the gather of the backward pass behind gradients."""
    work = a_workload()
    whole = stage_traffic(work, Cut(tensor=4), 3, "none", 8)
    found = stage_traffic(work, Cut(tensor=4, sequence=True), 3, recompute, 8)
    assert float(found.gather) == pytest.approx(factor * float(whole.all_reduce))
    assert float(found.hops) == pytest.approx(factor * float(whole.hops))
    assert float(found.all_reduce) == 0


def test_sharded_weights_are_gathered_twice_and_gradients_scattered_for_every_micro_batch() -> None:
    """Rajbhandari et al., arXiv 1910.02054, section 7: three times the model for stage 3, two for the others."""
    work = a_workload()
    model = work.parameters.total * 2.0
    fully = state_traffic(work, Cut(data=4, zero=3), 5, 8)
    assert float(fully.gather) == pytest.approx(5 * 3 * model * 3 / 4)
    for zero in (1, 2):
        once = state_traffic(work, Cut(data=4, zero=zero), 5, 8)
        assert float(once.gather) == pytest.approx(2 * model * 3 / 4)
    plain = state_traffic(work, Cut(data=4), 5, 8)
    assert float(plain.all_reduce) == pytest.approx(2 * model * 3 / 4)
    assert float(plain.gather) == 0


def test_a_sharded_pipelines_stage_gathers_and_scatters_once_a_step() -> None:
    """Held to the run by tests/training/parallel/test_traffic.py."""
    work = a_workload()
    stage = device_parameters(work, Cut(data=4, pipeline=2, zero=3), work.dimensions.n_layers / 2) * 2.0
    for micro_batches in (2, 8):
        found = state_traffic(work, Cut(data=4, pipeline=2, zero=3), micro_batches, 8)
        assert float(found.gather) == pytest.approx(2 * stage * 3 / 4)


def test_copies_in_one_node_need_no_network_and_others_share_the_nodes_links() -> None:
    work = a_workload()
    model = work.parameters.total * 2.0
    assert float(state_traffic(work, Cut(data=8), 1, 8).network) == 0
    assert float(state_traffic(work, Cut(data=8), 1, 4).network) == pytest.approx(2 * model * 4 / 8 / 4)
    beside = state_traffic(work, Cut(data=4, tensor=8), 1, 8)  # each copy fills a node
    assert float(beside.network) == pytest.approx(2 * (model / 8) * 3 / 4)
    assert float(beside.all_reduce) == 0


def test_context_parallelism_passes_the_others_keys_round() -> None:
    work = a_workload()
    found = stage_traffic(work, Cut(context=4), 2, "none", 8)
    own_keys = 2 * (2 * 512 / 4) * 2 * 64 * 2
    assert float(found.gather) == pytest.approx(8 * 3 * 3 * own_keys)
    assert float(stage_traffic(work, Cut(context=16), 2, "none", 8).network) > 0


def test_pipelines_pass_states_forward_and_gradients_back() -> None:
    found = stage_traffic(a_workload(), Cut(pipeline=2), 3, "none", 8)
    assert float(found.gather) == pytest.approx(2 * 3 * 512 * 256 * 2)
    across = stage_traffic(a_workload(), Cut(pipeline=2, tensor=8), 3, "none", 8)
    assert float(across.network) == pytest.approx(2 * 3 * 512 * 256 * 2)


def test_adapters_send_their_own_gradients_only() -> None:
    from dataclasses import replace

    work = a_workload()
    small = replace(work, parameters=replace(work.parameters, trained=work.parameters.total // 100))
    all_of_it = float(state_traffic(work, Cut(data=8), 1, 8).all_reduce)
    assert float(state_traffic(small, Cut(data=8), 1, 8).all_reduce) == pytest.approx(
        all_of_it / 100, rel=1e-3
    )


def test_more_copies_send_no_fewer_bytes() -> None:
    sizes = np.array([1, 2, 4, 8, 16, 64])
    found = state_traffic(a_workload(), Cut(data=sizes, zero=np.full(6, 3)), np.ones(6), 8)
    assert (np.diff(np.asarray(found.gather)) > 0).all()
    assert (np.diff(np.asarray(found.network)) >= 0).all()
