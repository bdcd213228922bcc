"""The paged kernels against attention written out in float64, on random pools."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.inference.cuda.places import Places, part_of
from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool, blocks_of, quantise
from arriero.inference.pool_attention import PoolAttention
from arriero.inference.rows import Rows
from arriero.models.layers.masks import AttentionRule


def random_pool(kv_heads: int, width: int, dtype: torch.dtype, blocks: int, device: str, seed: int) -> KVPool:
    generator = torch.Generator().manual_seed(seed)
    pool = KVPool(CacheShape(2, kv_heads, width, dtype, device), blocks * BLOCK)
    for stored, scales in ((pool.keys, pool.key_scales), (pool.values, pool.value_scales)):
        drawn = torch.randn(stored.shape, generator=generator)
        stored.copy_(drawn if scales is None else (40 * drawn).round().clamp(-127, 127))
        if scales is not None:
            scales.copy_(torch.rand(scales.shape, generator=generator) / 40)
    return pool


def tables_for(lengths: list[int], blocks: int, seed: int) -> list[list[int]]:
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(seed)).tolist()
    tables, at = [], 0
    for length in lengths:
        tables.append(order[at : at + blocks_of(length)])
        at += blocks_of(length)
    return tables


def places_for(tables: list[list[int]], lengths: list[int], device: str, wider: int = 0) -> Places:
    """One row for each sequence; what lies beyond a sequence's blocks would be far outside of the pool."""
    width = max(map(len, tables)) + wider
    lines = torch.tensor([t + [10**7] * (width - len(t)) for t in tables], dtype=torch.int32, device=device)
    owners = torch.arange(len(lengths), dtype=torch.int32, device=device)
    return Places(lines, owners, torch.tensor(lengths, dtype=torch.int32, device=device))


def written_out(
    pool: KVPool, layer: int, q: Tensor, table: list[int], length: int, window: int | None, slopes: Any
) -> Tensor:
    """Attention of one row q [H, Dh] in float64."""
    parts = []
    for stored, scales in ((pool.keys, pool.key_scales), (pool.values, pool.value_scales)):
        x = stored[layer, table].double()
        if scales is not None:
            x = x * scales[layer, table].double().unsqueeze(-1)
        parts.append(x.transpose(0, 1).flatten(1, 2)[:, :length].repeat_interleave(len(q) // x.shape[1], 0))
    keys, values = parts
    scores = (keys @ q.double().unsqueeze(-1))[..., 0] / math.sqrt(q.shape[1])
    distance = length - 1 - torch.arange(length, device=q.device)
    if slopes is not None:
        scores = scores - slopes.double()[:, None] * distance
    if window is not None:
        scores = scores.masked_fill(distance >= window, -math.inf)
    return (scores.softmax(-1).unsqueeze(1) @ values)[:, 0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    heads=st.sampled_from([(4, 4), (4, 2), (6, 2), (5, 1), (17, 1)]),
    width=st.sampled_from([8, 16, 20, 64, 80, 96, 128, 192, 256]),
    stored=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int8]),
    lengths=st.lists(
        st.one_of(st.integers(1, 130), st.sampled_from([256, 257, 530])), min_size=1, max_size=3
    ),
    window=st.sampled_from([None, 1, 5, 64, 300]),
    alibi=st.booleans(),
    wider=st.sampled_from([0, 7]),
    seed=st.integers(0, 2**31),
)
def test_attention_is_what_it_is_written_out(
    device: str, heads: tuple[int, int], width: int, stored: torch.dtype, lengths: list[int],
    window: int | None, alibi: bool, wider: int, seed: int,
) -> None:  # fmt: skip
    from arriero.inference.cuda import paged_attention

    blocks = sum(map(blocks_of, lengths)) + 1
    pool = random_pool(heads[1], width, stored, blocks, device, seed)
    tables = tables_for(lengths, blocks, seed)
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(heads[0], len(lengths), width, generator=generator).to(device).transpose(0, 1)
    slopes = torch.rand(heads[0], generator=generator).to(device) if alibi else None
    places = places_for(tables, lengths, device, wider)
    found = paged_attention.attend(pool, 1, q, places, window, slopes)
    for row, (table, length) in enumerate(zip(tables, lengths, strict=True)):
        expected = written_out(pool, 1, q[row], table, length, window, slopes)
        torch.testing.assert_close(found[row].double(), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", [None, torch.int8])
def test_attention_in_half_precision(device: str, dtype: torch.dtype, stored: torch.dtype | None) -> None:
    from arriero.inference.cuda import paged_attention

    lengths = [300, 1, 77]
    pool = random_pool(2, 80, stored or dtype, 9, device, 3)
    tables = tables_for(lengths, 9, 3)
    q = torch.randn(3, 6, 80, generator=torch.Generator().manual_seed(3)).to(device, dtype)
    found = paged_attention.attend(pool, 0, q, places_for(tables, lengths, device))
    assert found.dtype == dtype
    for row, (table, length) in enumerate(zip(tables, lengths, strict=True)):
        expected = written_out(pool, 0, q[row], table, length, None, None)
        torch.testing.assert_close(found[row].double(), expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
@pytest.mark.parametrize(("kv_heads", "width"), [(1, 8), (3, 80), (2, 256)])
def test_what_is_stored(device: str, stored: torch.dtype, kv_heads: int, width: int) -> None:
    from arriero.inference.cuda import paged_attention

    lengths = [1, 64, 65, 200]
    pool = random_pool(kv_heads, width, stored, 10, device, 0)
    untouched = {name: getattr(pool, name).clone() for name in ("keys", "values")}
    tables = tables_for(lengths, 10, 0)
    places = places_for(tables, lengths, device)
    places = replace(
        places, lengths=places.lengths * torch.tensor([1, 1, 0, 1], dtype=torch.int32, device=device)
    )
    # float32 into bfloat16: Triton's interpreter cuts digits off where a GPU rounds
    dtype = stored if stored.is_floating_point else torch.float32
    k, v = (torch.randn(kv_heads, 4, width, device=device).to(dtype).transpose(0, 1) for _ in range(2))
    k[3] = 0  # nothing to divide by
    paged_attention.store(pool, 1, k, v, places)
    for name, new in (("keys", k), ("values", v)):
        mask = torch.zeros(untouched[name].shape[:-1], dtype=torch.bool, device=device)
        for row in (0, 1, 3):
            at = (1, tables[row][-1], slice(None), (lengths[row] - 1) % BLOCK)
            mask[at] = True
            codes, scales = (new[row], None) if stored != torch.int8 else quantise(new[row])
            assert torch.equal(getattr(pool, name)[at], codes)
            if scales is not None:
                assert torch.equal(getattr(pool, name.removesuffix("s") + "_scales")[at], scales)
        assert torch.equal(getattr(pool, name)[~mask], untouched[name][~mask])


def test_the_same_as_attention_in_plain_torch(device: str) -> None:
    from arriero.inference.cuda.caches import PagedAttention

    generator = torch.Generator().manual_seed(0)
    for rule in (
        None,
        AttentionRule(70, None),
        AttentionRule(None, torch.rand(6, generator=generator).to(device)),
    ):
        one, other = (random_pool(2, 16, torch.float32, 12, device, 5) for _ in range(2))
        rows = Rows()
        for stored, count, blocks in ((100, 1, [3, 1]), (60, 8, [0, 7]), (130, 40, [5, 2, 9]), (0, 20, [4])):
            rows.add([1] * count, stored, blocks, [0])
        q, k, v = (torch.randn(1, h, len(rows), 16, generator=generator).to(device) for h in (6, 2, 2))
        expected = PoolAttention(one, rows).attend(1, q, k, v, rule)
        found = PagedAttention(other, rows, 4).attend(1, q, k, v, rule)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)


def test_bits_depend_neither_on_company_nor_on_the_tables_width(device: str) -> None:
    from arriero.inference.cuda import paged_attention

    lengths = [600, 3, 130]
    pool = random_pool(2, 64, torch.float32, 20, device, 1)
    tables = tables_for(lengths, 20, 1)
    q = torch.randn(3, 4, 64, device=device)
    together = paged_attention.attend(pool, 0, q, places_for(tables, lengths, device, 30))
    for row in range(3):
        alone = places_for(tables[row : row + 1], lengths[row : row + 1], device)
        assert torch.equal(paged_attention.attend(pool, 0, q[row : row + 1], alone)[0], together[row])


def test_rows_that_are_not_there_see_nothing(device: str) -> None:
    from arriero.inference.cuda import paged_attention

    pool = random_pool(1, 16, torch.float32, 2, device, 1)
    places = places_for([[0], [1]], [0, 9], device)
    found = paged_attention.attend(pool, 0, torch.randn(2, 3, 16, device=device), places, window=4)
    assert found[0].eq(0).all()
    assert found[1].ne(0).all()


@pytest.mark.parametrize(("context", "part"), [(1, 4), (8192, 4), (16384, 4), (16385, 8), (131072, 32)])
def test_a_context_has_64_parts_at_most(context: int, part: int) -> None:
    assert part_of(context) == part
    assert blocks_of(context) <= 64 * part_of(context)
