from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool, blocks_of, quantise

SHAPE = CacheShape(n_layers=2, n_kv_heads=2, head_dim=3)


def pool_of(blocks: int) -> KVPool:
    return KVPool(SHAPE, blocks * BLOCK)


def longest_run(free: set[int], start: int) -> int:
    length = 0
    while start + length in free:
        length += 1
    return length


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 12),
    st.lists(
        st.tuples(st.sampled_from(["allocate", "share", "release"]), st.integers(0, 99), st.integers(0, 99)),
        max_size=60,
    ),
)
def test_books_equal_those_of_a_plain_dictionary(blocks: int, actions: list[tuple[str, int, int]]) -> None:
    pool = pool_of(blocks)
    owners: list[list[int]] = []
    for action, number, other in actions:
        free = set(range(blocks)) - {b for owned in owners for b in owned}
        assert pool.free == len(free)
        assert pool.used == blocks - len(free)
        if action == "allocate":
            count, after = number % (blocks + 2), other % blocks if other % 2 else None
            taken = pool.allocate(count, after)
            assert (taken is None) == (count > len(free))
            if taken is not None:
                assert len(set(taken)) == count
                assert set(taken) <= free
                run = longest_run(free, after + 1) if after is not None else 0
                if run:  # behind the one before, as far as that goes
                    assert taken[: min(run, count)] == list(range(after + 1, after + 1 + min(run, count)))
                elif count and any(longest_run(free, b) >= count for b in free):
                    assert taken == list(range(taken[0], taken[0] + count))
                owners.append(taken)
        elif owners and action == "share":
            owned = owners[number % len(owners)]
            pool.share(owned)
            owners.append(list(owned))
        elif owners:
            pool.release(owners.pop(number % len(owners)))
        for block in range(blocks):
            assert pool.references(block) == sum(owned.count(block) for owned in owners)
        pool.check(owners)


def test_leaks_and_double_frees_are_found() -> None:
    pool = pool_of(3)
    taken = pool.allocate(2)
    assert taken == [0, 1]
    with pytest.raises(ArrieroError, match=r"block 1 .* counts 1 owners, there are 0"):
        pool.check([[0]])
    with pytest.raises(ArrieroError, match=r"block 2 .* counts 0 owners, there are 1"):
        pool.check([taken, [2]])
    pool.release([0])
    with pytest.raises(ArrieroError, match=r"block 0 .* freed twice"):
        pool.release([0])
    with pytest.raises(ArrieroError, match="no owner to share"):
        pool.share([0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_a_copied_block_holds_the_same(dtype: torch.dtype) -> None:
    pool = KVPool(CacheShape(2, 2, 3, dtype), 3 * BLOCK)
    parts = [p for p in (pool.keys, pool.values, pool.key_scales, pool.value_scales) if p is not None]
    for number, part in enumerate(parts):
        part[:, 1] = torch.arange(part[:, 1].numel()).reshape(part[:, 1].shape) % 100 + number
    pool.copy(1, 2)
    for part in parts:
        assert torch.equal(part[:, 2], part[:, 1])
        assert part[:, 1].any()
        assert not part[:, 0].any()


def test_sizes() -> None:
    assert SHAPE.bytes_per_token == 2 * 2 * 2 * 3 * 4
    assert KVPool(SHAPE, 100).bytes == 128 * SHAPE.bytes_per_token
    int8 = KVPool(CacheShape(2, 2, 3, torch.int8), 100)
    parts = [p for p in (int8.keys, int8.values, int8.key_scales, int8.value_scales) if p is not None]
    assert int8.bytes == sum(p.numel() * p.element_size() for p in parts)
    assert [blocks_of(n) for n in (0, 1, 64, 65)] == [0, 1, 1, 2]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.floats(-30, 30))
def test_int8_is_off_by_half_a_scale_at_most(seed: int, power: float) -> None:
    x = torch.randn(5, 2, 16, generator=torch.Generator().manual_seed(seed)) * 10**power
    codes, scales = quantise(x)
    assert codes.dtype == torch.int8
    back = codes.double() * scales.double().unsqueeze(-1)
    bound = x.double().abs().amax(-1, keepdim=True) / 254
    assert ((back - x.double()).abs() <= bound * (1 + 1e-5)).all()


def test_int8_rounds_half_to_even_and_knows_zero() -> None:
    codes, scales = quantise(torch.tensor([[127.0, 0.5, 1.5, -2.5], [0, 0, 0, 0]]))
    assert codes.tolist() == [[127, 0, 2, -2], [0, 0, 0, 0]]
    assert scales.tolist() == [1, 0]
