"""Layouts that fit, and one clear line for each that does not."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from arriero.cost import Estimate, Quantity
from arriero.errors import ArrieroError
from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import get_family
from arriero.training.objectives.causal import CausalObjective, PlannedWindows
from arriero.training.objectives.stream import StreamObjective
from arriero.training.parallel.layout import check_layout, check_started, layout_of
from arriero.training.parallel.plan import divided, gathered, planned_layout, with_failures
from arriero.training.parallel.settings import ParallelSettings
from arriero.training.parallel.world import World, world
from arriero.training.settings import TrainSettings

CONFIG: dict[str, Any] = {
    "vocab_size": 300, "d_model": 32, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "d_ff": 48,
    "context_length": 32,
}  # fmt: skip


def causal(length: int = 32) -> CausalObjective:
    return CausalObjective(PlannedWindows(8, length), length, document_mask=True)


def check(
    size: int, parallel: dict[str, Any], objective: Any = None, config: Any = None, **settings: Any
) -> None:
    given = TrainSettings(parallel=ParallelSettings(**parallel), **settings)
    layout = layout_of(given.parallel, size)
    check_layout(layout, config or DecoderConfig(**CONFIG), objective or causal(), given)


@pytest.mark.parametrize(
    ("size", "parallel", "sizes"),
    [
        (8, {}, (1, 1, 8, 1, 1, True, 8)),
        (8, {"shard": "none"}, (1, 1, 8, 1, 1, False, 1)),
        (8, {"replicas": 2}, (1, 2, 4, 1, 1, True, 4)),
        (8, {"replicas": 8}, (1, 1, 8, 1, 1, False, 1)),  # a copy each is not sharded at all
        (8, {"tensor": 2, "context": 2}, (1, 1, 2, 2, 2, True, 8)),
        (8, {"data": 1, "tensor": 2, "context": 2, "pipeline": 2}, (2, 1, 1, 2, 2, True, 8)),
        (4, {"tensor": 2, "pipeline": 2}, (2, 1, 1, 1, 2, False, 4)),
        (4, {"pipeline": 2}, (2, 1, 2, 1, 1, True, 4)),
        (4, {"pipeline": 2, "context": 2}, (2, 1, 1, 2, 1, True, 4)),
    ],
)
def test_sizes(size: int, parallel: dict[str, Any], sizes: tuple[Any, ...]) -> None:
    layout = layout_of(ParallelSettings(**parallel), size)
    found = (layout.pipeline, layout.replicas, layout.data, layout.context, layout.tensor, layout.sharded)
    assert (*found, layout.weight_parts) == sizes
    assert layout.size == size


@pytest.mark.parametrize(
    ("size", "parallel", "complaint"),
    [
        (6, {"tensor": 4}, "tensor 4 x context 1 x pipeline 1 = 4 does not divide the 6 processes"),
        (8, {"data": 2}, "makes 2 processes, not 8; start that many: torchrun --nproc-per-node 2"),
        (6, {"replicas": 4}, "4 replicas do not divide the 6 processes"),
        (3, {"tensor": 3}, "n_heads 4 cannot be cut over tensor 3 evenly"),
        (4, {"tensor": 4}, "n_kv_heads 2 cannot be cut over tensor 4 evenly"),
        (3, {"pipeline": 3}, "4 layers cannot be cut over pipeline 3 evenly"),
        (3, {"context": 3}, "context_length 32 is not a multiple of 6"),
    ],
)
def test_what_does_not_divide_is_refused(size: int, parallel: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ArrieroError, match="parallel: ") as told:
        check(size, parallel)
    assert complaint in str(told.value)


def test_what_cannot_be_divided_is_refused() -> None:
    stream = StreamObjective(PlannedWindows(8, 32), 32, True, 4)
    with pytest.raises(ArrieroError, match="carries a state from sample to sample"):
        check(2, {}, stream)
    check(1, {}, stream)
    for one, name in (({"compile": True}, "compile"), ({"precision": "fp8"}, "precision fp8")):
        with pytest.raises(ArrieroError, match=f"{name} is for whole models"):
            check(2, {"context": 2}, **one)
        check(2, {"shard": "none"}, **one)
    bert = get_family("bert").config(
        vocab_size=300, d_model=32, n_layers=2, n_heads=4, d_ff=64, context_length=32
    )
    with pytest.raises(ArrieroError, match="the family bert has no plan for tensor"):
        check(2, {"tensor": 2}, config=bert)
    check(2, {}, config=bert)
    pairs: Any = SimpleNamespace(ordered=False)  # an objective whose loss is no sum over tokens
    for what in ("tensor", "context", "pipeline"):
        with pytest.raises(ArrieroError, match=f"set {what} to 1"):
            check(2, {what: 2}, pairs)
    dynamic = DecoderConfig(**CONFIG, rope_scaling={"kind": "dynamic", "factor": 2.0})
    with pytest.raises(ArrieroError, match="dynamic rotary scaling"):
        check(2, {"context": 2}, config=dynamic)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replicas": 2, "shard": "none"}, "replicas are for shard full"),
        ({"data": 3, "replicas": 2}, "data 3 is not a multiple of replicas 2"),
        ({"microbatches": 4}, "microbatches are for a pipeline"),
        ({"pipeline": 4, "microbatches": 2}, "fewer than the 4 stages"),
        ({"tensors": 2}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ParallelSettings(**values)


def test_one_process_says_what_to_type() -> None:
    with pytest.raises(ArrieroError, match="torchrun --nproc-per-node 6 -m arriero run"):
        check_started(ParallelSettings(data=3, tensor=2), 1)
    check_started(ParallelSettings(), 1)
    check_started(ParallelSettings(tensor=2), 4)


def test_the_world_is_what_torchrun_says() -> None:
    assert world({}) == World()
    found = world({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"})
    assert found == World(5, 8, 1, 4) and not found.leads and World().leads


def test_the_plan_of_one_process_of_several() -> None:
    def band(value: float, unit: str) -> Quantity:
        return Quantity.band(value, 0.2, unit, "modelled")

    alone = Estimate(seconds=band(100.0, "s"), peak_memory=band(6e9, "B"), flops=band(1e12, "FLOP"))
    figures = {"state_bytes": 3e9, "peak_bytes": 5e9, "device_bytes": 0.3e9}
    one = layout_of(ParallelSettings(), 1)
    assert divided(alone, one, **figures) == alone
    four = divided(alone, layout_of(ParallelSettings(), 4), **figures)
    # 4 GB of weights, moments and gradients over four, and the 1 GB that lives in the step besides
    assert four.peak_memory.low == pytest.approx(0.3e9 + 1e9 + 1e9)
    assert four.peak_memory.high == pytest.approx(0.3e9 + 1.3 * (1e9 + 1e9 + 1e9))
    assert four.flops == alone.flops
    assert four.seconds.low is not None and four.seconds.low < 25
    cut = divided(alone, layout_of(ParallelSettings(tensor=2, context=2), 4), **figures)
    assert cut.peak_memory.low == pytest.approx(0.3e9 + 1e9 + 0.25e9)


def test_the_plan_counts_what_optimizers_gather() -> None:
    config = DecoderConfig(**CONFIG)
    # 4 blocks of queries and output (32 x 32), keys and values (16 x 32), gate, up and down (48 x 32)
    elements = 4 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32)

    def found(optimizer: str, size: int, **parallel: Any) -> Any:
        given = TrainSettings(optimizer=optimizer, parallel=ParallelSettings(**parallel))
        return gathered(config, given, layout_of(given.parallel, size))

    muon = found("muon", 2)
    assert muon.sent == 4 * elements and muon.held == 10 * 48 * 32
    assert found("muon", 4, pipeline=2).sent == 2 * elements
    assert 0 < found("adafactor", 2, tensor=2).sent < 0.1 * muon.sent
    for whole in (found("adamw", 2), found("muon", 2, shard="none"), found("muon", 1)):
        assert whole.sent == whole.held == 0
    alone = Estimate(
        seconds=Quantity.exact(1.0, "s", "modelled"), peak_memory=Quantity.exact(1.0, "B", "modelled")
    )
    figures = {"state_bytes": 2e9, "peak_bytes": 3e9, "device_bytes": 0.0, "optimizer": "muon"}
    two = layout_of(ParallelSettings(), 2)
    small, large = (divided(alone, two, **figures, gathered_bytes=size) for size in (0.0, 5e9))
    assert small.peak_memory.low == pytest.approx(1.5e9)  # weights, momentum and gradients, over two
    assert large.peak_memory.low == pytest.approx(1.5e9 + 5e9)


def test_the_plan_counts_failures_only_where_their_rate_is_known() -> None:
    month = Quantity.exact(30 * 86400.0, "s", "modelled")
    alone = Estimate(seconds=month)
    one, many = layout_of(ParallelSettings(), 1), layout_of(ParallelSettings(), 4096)
    h100: Any = SimpleNamespace(accelerator="NVIDIA H100 80GB HBM3")
    unnamed: Any = SimpleNamespace(accelerator=None)
    assert with_failures(alone, one, h100) == (alone, [])
    estimate, notes = with_failures(alone, many, unnamed)
    assert estimate == alone and "not counted: no failure rate is known" in notes[0]
    estimate, notes = with_failures(alone, many, h100)
    assert estimate.seconds.value is not None and 30 * 86400 < estimate.seconds.value < 1.3 * 30 * 86400
    assert "of the time trains" in notes[0]


def test_the_plan_refuses_what_the_run_would() -> None:
    given = TrainSettings(parallel=ParallelSettings(tensor=3))
    with pytest.raises(ArrieroError, match="cannot be cut over tensor 3"):
        planned_layout(DecoderConfig(**CONFIG), causal(), given)


def test_settings_need_no_torch() -> None:
    code = (
        "import sys; import arriero.training.settings, arriero.training.parallel.layout, "
        "arriero.training.parallel.world; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
