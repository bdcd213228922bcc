"""The trace against torch's own counters, against real runs, and against counting by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.flop_counter import FlopCounterMode

from arriero.cost.trace import LiveStorages, trace


class Block(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.silu(self.up(x)))


class Model(nn.Module):
    def __init__(self, causal: bool = True, vocabulary: int = 96, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, 4, causal) for _ in range(depth))
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


State = tuple[nn.Module, torch.optim.Optimizer, torch.Tensor]


def step(dtype: torch.dtype = torch.float32) -> Callable[[State], None]:
    def run(state: State) -> None:
        model, optimizer, ids = state
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = model(ids[:, :-1])
        F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def make_model(causal: bool = True, batch: int = 2, length: int = 24) -> State:
    model = Model(causal)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(0, 96, (batch, length + 1))
    step()((model, optimizer, ids))
    return model, optimizer, ids


def counted(run: Callable[[], Any], mapping: dict[Any, Any] | None = None) -> int:
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return counter.get_total_flops()


def _square(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    batch, heads, length, size = query
    return 4 * batch * heads * length * key[-2] * size


def _square_backward(
    grad: Any, query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    return 5 * _square(query, key, value) // 2


CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _square,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _square_backward,
}


@pytest.mark.parametrize("bias", [False, True])
def test_linear_flops_equal_torchs_counter(bias: bool) -> None:
    def make() -> tuple[nn.Module, torch.Tensor]:
        return nn.Sequential(
            nn.Linear(24, 40, bias=bias), nn.ReLU(), nn.Linear(40, 8, bias=bias)
        ), torch.randn(6, 24)

    def run(state: tuple[nn.Module, torch.Tensor]) -> None:
        state[0](state[1]).sum().backward()

    state = make()
    assert (
        trace(make, run).flops
        == counted(lambda: run(state))
        == 3 * 2 * 6 * (24 * 40 + 40 * 8) - 2 * 6 * 24 * 40
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_full_square_attention_equals_torchs_counter_with_the_missing_operations_added(
    dtype: torch.dtype,
) -> None:
    state = make_model(causal=False)
    assert trace(lambda: make_model(causal=False), step(dtype)).flops == counted(
        lambda: step(dtype)(state), CPU_ATTENTION
    )


def test_causal_attention_counts_half_the_square() -> None:
    full = trace(lambda: make_model(causal=False), step()).flops_by_kind()
    causal = trace(lambda: make_model(causal=True), step()).flops_by_kind()
    assert causal["matmul"] == full["matmul"]
    assert causal["attention"] * 2 == full["attention"] == 2 * 4 * 2 * 4 * 24 * 24 * 8
    assert causal["attention_backward"] == 2.5 * causal["attention"]


def test_math_attention_is_counted_as_products() -> None:
    def run(q: torch.Tensor) -> None:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            F.scaled_dot_product_attention(q, q, q)

    found = trace(lambda: torch.randn(2, 3, 16, 8), run)
    assert found.flops == 4 * 2 * 3 * 16 * 16 * 8
    assert set(found.flops_by_kind()) >= {"matmul"}
    assert "attention" not in found.flops_by_kind()


def test_inference_mode_counts_as_much_as_the_forward_pass() -> None:
    def run(state: State) -> None:
        with torch.inference_mode():
            state[0](state[2])

    found = trace(make_model, run)
    state = make_model()
    with torch.no_grad():
        assert found.flops_by_kind()["matmul"] == counted(lambda: state[0](state[2]))
    assert found.flops_by_kind()["attention"] > 0


def test_products_that_torchs_counter_misses() -> None:
    a, b = torch.ones(32, 24, dtype=torch.int8), torch.ones(24, 16, dtype=torch.int8)
    assert trace(lambda: (a, b), lambda s: torch._int_mm(*s)).flops == 2 * 32 * 24 * 16
    assert trace(lambda: torch.randn(8, 24), lambda m: m @ m[0]).flops == 2 * 8 * 24
    assert trace(lambda: torch.randn(24), lambda v: v @ v).flops == 2 * 24
    assert (
        trace(lambda: torch.randn(2, 3, 8), lambda x: torch.baddbmm(x[:, :, :3], x, x.mT)).flops
        == 2 * 2 * 3 * 8 * 3
    )


def test_convolution_takes_torchs_formula() -> None:
    def make() -> tuple[nn.Module, torch.Tensor]:
        return nn.Conv1d(4, 6, 3), torch.randn(2, 4, 20)

    state = make()
    assert trace(make, lambda s: s[0](s[1])).flops == counted(lambda: state[0](state[1])) > 0


def test_a_product_that_nobody_knows_is_told() -> None:
    with torch.library._scoped_library("arriero_test", "FRAGMENT") as library:
        library.define("secret_mm(Tensor a, Tensor b) -> Tensor")
        library.impl(
            "secret_mm", lambda a, b: a.new_empty(a.shape[0], b.shape[1]), "CompositeExplicitAutograd"
        )
        found = trace(lambda: torch.randn(4, 4), lambda x: torch.ops.arriero_test.secret_mm(x, x))
    assert found.uncounted == ("arriero_test::secret_mm",)
    assert trace(make_model, step()).uncounted == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fake_memory_and_arithmetic_equal_those_of_a_real_run(dtype: torch.dtype) -> None:
    fake = trace(make_model, step(dtype))
    real = trace(make_model, step(dtype), fake=False)
    assert fake.state_bytes == real.state_bytes
    assert fake.peak_bytes == real.peak_bytes
    assert fake.flops == real.flops


def test_peak_of_a_simple_network_by_hand() -> None:
    batch, inner, outer = 512, 256, 1024
    weights, x, h, y = 4 * (2 * inner * outer), 4 * batch * inner, 4 * batch * outer, 4 * batch * inner

    def make() -> tuple[nn.Module, torch.Tensor]:
        net = nn.Sequential(
            nn.Linear(inner, outer, bias=False), nn.ReLU(), nn.Linear(outer, inner, bias=False)
        )
        return net, torch.randn(batch, inner)

    def run(state: tuple[nn.Module, torch.Tensor]) -> None:
        state[0](state[1]).sum().backward()

    found = trace(make, run)
    assert found.state_bytes == weights + x
    # in the backward pass of ReLU: its saved output, the incoming and the outgoing gradient, one weight's gradient
    by_hand = weights + x + 3 * h + weights // 2
    assert found.peak_bytes == pytest.approx(by_hand, rel=0.05)
    assert y < h


def test_peak_equals_torchs_memory_tracker() -> None:
    from torch.distributed._tools.mem_tracker import MemTracker

    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(0, 96, (2, 25))
    step()((model, optimizer, ids))
    tracker = MemTracker()
    tracker.track_external(model, optimizer, ids)
    with tracker:
        step()((model, optimizer, ids))
    total = sum(kinds["Total"] for kinds in tracker.get_tracker_snapshot("peak").values())
    assert trace(make_model, step()).peak_bytes == pytest.approx(total, rel=0.02)


def test_views_are_free_and_copies_are_not() -> None:
    def views(x: torch.Tensor) -> None:
        x.view(-1).reshape(64, 16).t()[3:].unsqueeze(0).expand(4, -1, -1)

    assert trace(lambda: torch.randn(32, 32), views).bytes == 0
    assert trace(lambda: torch.randn(32, 32), lambda x: x.t().contiguous()).bytes == 2 * 32 * 32 * 4
    assert trace(lambda: torch.randn(32, 32), lambda x: x.mul_(2)).bytes == 2 * 32 * 32 * 4
    assert trace(lambda: torch.randn(32, 32), lambda x: x.zero_()).bytes == 32 * 32 * 4


def test_looking_up_rows_reads_the_rows_and_not_the_table() -> None:
    def make() -> tuple[nn.Module, torch.Tensor]:
        return nn.Embedding(50_000, 8), torch.zeros(3, dtype=torch.int64)

    found = trace(make, lambda s: s[0](s[1]))
    assert found.bytes == 2 * 3 * 8 * 4 + 3 * 8
    assert found.flops == 0


def test_a_model_far_too_large_for_this_machine() -> None:
    width = 1_000_000  # a matrix of 4 TB
    start = time.process_time()
    found = trace(lambda: nn.Linear(width, width, bias=False), lambda layer: layer(torch.randn(4, width)))
    assert found.state_bytes == 4 * width * width
    assert found.flops == 2 * 4 * width * width
    assert time.process_time() - start < 5


def test_same_operations_are_put_together() -> None:
    found = trace(lambda: torch.randn(8, 8), lambda x: [x @ x for _ in range(5)])
    assert [(op.name, op.count, op.m, op.k, op.n) for op in found.ops] == [("mm", 5, 8, 8, 8)]
    assert found.peak_bytes == found.state_bytes * 6


def test_what_make_leaves_behind_is_not_state() -> None:
    def make() -> torch.Tensor:
        torch.randn(1000).sum()
        return torch.randn(10)

    found = trace(make, lambda x: None)
    assert found.state_bytes == found.peak_bytes == 40
    assert found.ops == []


def test_a_tensor_that_wraps_others_takes_their_bytes_alone() -> None:
    """As what a collective gives back until it is waited for (``AsyncCollectiveTensor``)."""
    live, parts = LiveStorages(), (torch.zeros(3, 5), torch.zeros(3, 5))
    live.add(parts[0])
    live.add(TwoTensor(*parts))
    assert live.bytes == live.peak == 2 * 3 * 5 * 4
