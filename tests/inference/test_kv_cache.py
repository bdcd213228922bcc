from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.inference.kv_cache import BLOCK, CacheShape, KeyValuePool, Lease, round_up

SHAPE = CacheShape(n_layers=2, n_kv_heads=2, head_dim=3)


def write(pool: KeyValuePool, lease: Lease, tokens: torch.Tensor) -> None:
    """Put ``tokens [n]`` at the end of a row, marked so that layer, head and kind can be told apart."""
    for layer in range(SHAPE.n_layers):
        for kind, rows in enumerate(pool.layer(layer)):
            for head in range(SHAPE.n_kv_heads):
                marked = tokens[:, None] * 100 + layer * 10 + kind * 2 + head
                rows[lease.row, head, lease.length : lease.length + len(tokens)] = marked
    lease.length += len(tokens)


def holds(pool: KeyValuePool, lease: Lease, tokens: torch.Tensor) -> bool:
    copy = KeyValuePool(SHAPE, round_up(len(tokens) + 1), 1)
    expected = copy.reserve(len(tokens) + 1)
    assert expected is not None
    write(copy, expected, tokens)
    return all(
        torch.equal(got[lease.row, :, : lease.length], right[0, :, : lease.length])
        for layer in range(SHAPE.n_layers)
        for got, right in zip(pool.layer(layer), copy.layer(layer), strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["reserve", "write", "release"]), st.integers(0, 300)), max_size=40),
)
def test_rows_keep_their_content_whatever_comes_and_goes(blocks: int, actions: list[tuple[str, int]]) -> None:
    pool = KeyValuePool(SHAPE, blocks * BLOCK, 4)
    content: dict[int, torch.Tensor] = {}
    leases: list[Lease] = []
    for action, number in actions:
        if action == "reserve":
            tokens = 1 + number
            others = [lease.reserved for lease in leases]
            fits = len(leases) < 4 and (len(leases) + 1) * round_up(max([tokens, *others])) <= pool.max_tokens
            lease = pool.reserve(tokens)
            assert (lease is not None) == fits
            if lease is not None:
                leases.append(lease)
                content[id(lease)] = torch.zeros(0)
        elif leases and action == "write":
            lease = leases[number % len(leases)]
            more = torch.arange(min(7, lease.reserved - lease.length)) + number
            write(pool, lease, more)
            content[id(lease)] = torch.cat([content[id(lease)], more])
        elif leases:
            pool.release(leases.pop(number % len(leases)))
        assert sorted(lease.row for lease in leases) == list(range(pool.used))
        assert all(holds(pool, lease, content[id(lease)]) for lease in leases)


def test_sizes() -> None:
    assert SHAPE.bytes_per_token == 2 * 2 * 2 * 3 * 4
    assert KeyValuePool(SHAPE, 100, 2).bytes == 128 * SHAPE.bytes_per_token
    assert [round_up(n) for n in (1, 64, 65)] == [64, 64, 128]
