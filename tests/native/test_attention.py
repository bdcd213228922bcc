"""Attention over the paged pool against softmax written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool
from arriero.inference.native_runner import pool_description
from arriero.models.layers.positions import alibi_slopes
from arriero.native import library, program
from arriero.native.matrices import dense
from arriero.native.program import Builder, Heads, Program

pytestmark = pytest.mark.skipif(not library.available(), reason="the native library was not built")


class Case:
    """Queries, keys and values of one sequence, and a program that attends with them."""

    def __init__(
        self,
        length: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int = 0,
        alibi: bool = False,
        seed: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.length, self.heads, self.kv_heads, self.head_dim, self.window = (
            length,
            heads,
            kv_heads,
            head_dim,
            window,
        )
        self.slopes = alibi_slopes(heads) if alibi else None
        width = (heads + 2 * kv_heads) * head_dim
        self.qkv = torch.randn(length, width, generator=generator)
        self.scale = head_dim**-0.5
        builder = Builder()
        qkv, out = builder.buffer(width), builder.buffer(heads * head_dim)
        builder.add(program.EMBED, out=qkv, weight=self.qkv, width=width)
        builder.add(program.STORE, input=qkv)
        builder.add(program.ATTEND, input=qkv, out=out)
        builder.add(program.MERGE, input=out, out=out, width=heads * head_dim)
        identity = dense(torch.eye(heads * head_dim))
        builder.add(program.PRODUCT, input=out, out=program.LOGITS, matrix=identity)
        pointer = None if self.slopes is None else self.slopes.data_ptr()
        self._program = Program(builder, Heads(heads, window, 0, 0, self.scale, 0, None, None, pointer))

    def pool(self, dtype: torch.dtype) -> KVPool:
        return KVPool(CacheShape(1, self.kv_heads, self.head_dim, dtype), self.length + 3 * BLOCK)

    def run(self, pool: KVPool, cuts: list[int]) -> Tensor:
        """Attend in pieces of so many rows, over blocks in reverse order."""
        blocks = list(range(pool.n_blocks))[::-1]
        found, stored, turn = [], 0, 0
        while stored < self.length:
            count = min(cuts[turn % len(cuts)], self.length - stored)
            out = torch.empty(count, self.heads * self.head_dim)
            ids = list(range(stored, stored + count))
            spans = [(0, count, stored, blocks)]
            self._program.run(pool_description(pool), ids, ids, spans, list(range(count)), out.data_ptr())
            found.append(out)
            stored, turn = stored + count, turn + 1
        return torch.cat(found)

    def expected(self) -> Tensor:
        q, k, v = self.qkv.double().split(
            [n * self.head_dim for n in (self.heads, self.kv_heads, self.kv_heads)], 1
        )
        q = q.view(self.length, self.heads, -1).transpose(0, 1)
        k, v = (
            x.view(self.length, self.kv_heads, -1)
            .transpose(0, 1)
            .repeat_interleave(self.heads // self.kv_heads, 0)
            for x in (k, v)
        )
        scores = q @ k.transpose(1, 2) * self.scale
        places = torch.arange(self.length)
        distance = places[:, None] - places
        if self.slopes is not None:
            scores = scores - self.slopes.double()[:, None, None] * distance
        hidden = (distance < 0) | (
            (distance >= self.window) if self.window else torch.zeros_like(distance).bool()
        )
        out = scores.masked_fill(hidden, -math.inf).softmax(-1) @ v
        return out.transpose(0, 1).flatten(1)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 330),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2), (7, 1), (9, 3), (65, 1)]),
    head_dim=st.sampled_from([1, 8, 16, 20, 64, 80]),
    window=st.sampled_from([0, 0, 1, 30, 64, 100]),
    alibi=st.booleans(),
    cuts=st.lists(st.integers(1, 90), min_size=1, max_size=4),
)
def test_equals_softmax(
    length: int, heads: tuple[int, int], head_dim: int, window: int, alibi: bool, cuts: list[int]
) -> None:
    case = Case(length, *heads, head_dim, window, alibi)
    torch.testing.assert_close(
        case.run(case.pool(torch.float32), cuts).double(), case.expected(), atol=2e-6, rtol=1e-5
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.int8, 0.05)])
def test_short_element_types(dtype: torch.dtype, tolerance: float) -> None:
    case = Case(300, 6, 2, 40)
    found = case.run(case.pool(dtype), [37])
    assert (found.double() - case.expected()).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("window", [0, 70])
def test_bits_do_not_depend_on_cuts_or_threads(dtype: torch.dtype, window: int) -> None:
    case = Case(600, 6, 2, 24, window)
    whole = case.run(case.pool(dtype), [600])
    try:
        for threads, cuts in ((1, [1, 7, 40]), (2, [64]), (3, [5, 100]), (4, [600])):
            library.set_threads(threads)
            assert torch.equal(case.run(case.pool(dtype), cuts), whole), (threads, cuts)
    finally:
        library.set_threads(1)


def test_what_an_int8_pool_holds_is_what_python_would_store() -> None:
    from arriero.inference.kv_pool import quantise

    case = Case(70, 2, 2, 24)
    pool = case.pool(torch.int8)
    case.run(pool, [70])
    keys = case.qkv[:, 48:96].view(70, 2, 24)
    codes, scales = quantise(keys)
    last = pool.n_blocks - 1
    assert pool.key_scales is not None
    assert torch.equal(pool.keys[0, last], codes[:BLOCK].transpose(0, 1))
    assert torch.equal(pool.key_scales[0, last - 1, :, :6], scales[BLOCK:].transpose(0, 1))


@pytest.mark.parametrize("level", ["portable", "avx2", "avx512"])
def test_every_level(level: str) -> None:
    best = library.level()
    try:
        if library.set_level(level) != level:
            pytest.skip(f"this processor has no {level}")
        case = Case(310, 6, 2, 20, 200, True)
        found = case.run(case.pool(torch.float32), [29, 1])
        torch.testing.assert_close(found.double(), case.expected(), atol=2e-6, rtol=1e-5)
        assert torch.equal(case.run(case.pool(torch.float32), [310]), found)
    finally:
        library.set_level(best)


def test_stale_numbers_behind_the_last_token_do_not_matter() -> None:
    case = Case(10, 2, 1, 16)
    pool = case.pool(torch.float32)
    pool.keys.fill_(math.nan)
    pool.values.fill_(math.nan)
    torch.testing.assert_close(case.run(pool, [3]).double(), case.expected(), atol=2e-6, rtol=1e-5)
