"""The torch runner against the model run whole, whatever the cut into spans and the order of the blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool, blocks_of
from arriero.inference.rows import Rows
from arriero.inference.torch_runner import TorchRunner
from arriero.models.decoder import Decoder

SWITCHES: list[dict[str, object]] = [
    {},
    {"n_kv_heads": 1},
    {"n_kv_heads": 4},
    {"n_heads": 6, "head_dim": 8},
    {"sliding_window": 5},
    {"sliding_window": 70},
    {"positions": "alibi", "norm": "layer", "embedding_norm": True},
    {"positions": "alibi", "n_heads": 6, "head_dim": 8, "sliding_window": 70},
    {"positions": "relative", "gated": False, "activation": "gelu"},
    {"positions": "relative", "sliding_window": 70, "n_heads": 6, "head_dim": 8},
    {"positions": "learned", "top_query": True, "norm": "layer", "gated": False},
    {"rotary_dim": 4, "arrangement": "parallel", "parallel_norms": 1},
]


def pool_for(model: Decoder, dtype: torch.dtype, blocks: int) -> KVPool:
    config = model.config
    shape = CacheShape(config.n_layers, config.n_kv_heads, config.head_dim, dtype)
    pool = KVPool(shape, blocks * BLOCK)
    if dtype != torch.int8:
        pool.keys.fill_(99)  # what nobody has written must not be seen
        pool.values.fill_(99)
    return pool


def run_cut(
    model: Decoder, pool: KVPool, texts: list[list[int]], rng: np.random.Generator, orderly: bool
) -> list[torch.Tensor]:
    """All logits of all texts, run in random spans of random companies."""
    order = np.arange(pool.n_blocks) if orderly else rng.permutation(pool.n_blocks)
    tables, at = [], 0
    for text in texts:
        tables.append(order[at : at + blocks_of(len(text))].tolist())
        at += blocks_of(len(text))
    runner, stored = TorchRunner(model, pool), [0] * len(texts)
    out: list[list[torch.Tensor]] = [[] for _ in texts]
    while any(n < len(text) for n, text in zip(stored, texts, strict=True)):
        rows, asked = Rows(), []
        for i, text in enumerate(texts):
            count = min(int(rng.choice([0, 1, 1, 2, 5, 40, 90])), len(text) - stored[i])
            if count:
                rows.add(text[stored[i] : stored[i] + count], stored[i], tables[i], list(range(count)))
                asked += [i] * count
                stored[i] += count
        if asked:
            for i, row in zip(asked, runner.run(rows), strict=True):
                out[i].append(row)
    return [torch.stack(found) for found in out]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    switches=st.sampled_from(SWITCHES),
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(1, 155), min_size=1, max_size=4),
    orderly=st.booleans(),
)
def test_any_cut_gives_the_logits_of_the_whole(
    tiny: Callable[..., Decoder], switches: dict[str, object], seed: int, lengths: list[int], orderly: bool
) -> None:
    model, rng = tiny(seed % 7, **switches), np.random.default_rng(seed)
    texts = [rng.integers(0, 261, n).tolist() for n in lengths]
    pool = pool_for(model, torch.float32, sum(blocks_of(n) for n in lengths) + 2)
    for text, found in zip(texts, run_cut(model, pool, texts, rng, orderly), strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([text]))[0]
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.15), (torch.int8, 0.15)])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_smaller_elements_are_close(
    tiny: Callable[..., Decoder], dtype: torch.dtype, tolerance: float, kv_heads: int
) -> None:
    model, rng = tiny(1, init_std=0.1, n_kv_heads=kv_heads), np.random.default_rng(0)
    texts = [rng.integers(0, 261, n).tolist() for n in (150, 40)]
    found = run_cut(model, pool_for(model, dtype, 6), texts, rng, orderly=False)
    for text, logits in zip(texts, found, strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([text]))[0]
        scale = expected.std()
        assert (logits - expected).abs().max() < tolerance * scale
        assert (logits - expected).abs().max() > 0


def test_bfloat16_models_run_in_bfloat16(tiny: Callable[..., Decoder]) -> None:
    model, rng = tiny(1, init_std=0.1).to(torch.bfloat16), np.random.default_rng(0)
    texts = [rng.integers(0, 261, n).tolist() for n in (150, 40)]
    found = run_cut(model, pool_for(model, torch.bfloat16, 6), texts, rng, orderly=True)
    for text, logits in zip(texts, found, strict=True):
        assert logits.dtype == torch.float32
        with torch.inference_mode():
            expected = model.float()(torch.tensor([text]))[0]
        model.to(torch.bfloat16)
        assert (logits - expected).abs().max() < 0.3 * expected.std()


def test_only_wanted_rows_and_only_own_blocks(tiny: Callable[..., Decoder]) -> None:
    model = tiny(2)
    pool = pool_for(model, torch.float32, 4)
    rows = Rows()
    rows.add([5, 6, 7], 0, [2], [2])
    rows.add([8, 9], 0, [0], [])
    logits = TorchRunner(model, pool).run(rows)
    with torch.inference_mode():
        torch.testing.assert_close(logits, model(torch.tensor([[5, 6, 7]]))[:, -1], atol=1e-4, rtol=1e-4)
    assert pool.keys[:, [1, 3]].eq(99).all()
    assert pool.keys[:, 2, :, 3:].eq(99).all()
    assert pool.keys[:, 2, :, :3].ne(99).all()
    assert pool.keys[:, 0, :, :2].ne(99).all()
    unwanted = Rows()
    unwanted.add([5], 0, [1], [])
    assert TorchRunner(model, pool).run(unwanted).shape == (0, 261)


def test_more_rows_than_the_context_holds(tiny: Callable[..., Decoder]) -> None:
    model, rng = tiny(2), np.random.default_rng(0)
    texts = [rng.integers(0, 261, 150).tolist() for _ in range(3)]
    rows = Rows()
    for i, text in enumerate(texts):
        rows.add(text, 0, list(range(3 * i, 3 * i + 3)), [149])
    logits = TorchRunner(model, pool_for(model, torch.float32, 9)).run(rows)
    with torch.inference_mode():
        torch.testing.assert_close(logits, model(torch.tensor(texts))[:, -1], atol=2e-4, rtol=1e-4)


def test_angles_that_follow_the_length_follow_each_sequences_own(tiny: Callable[..., Decoder]) -> None:
    scaling = {"kind": "dynamic", "factor": 2.0, "original_context_length": 32}
    model, rng = tiny(2, rope_scaling=scaling), np.random.default_rng(0)
    texts = [rng.integers(0, 261, n).tolist() for n in (20, 150, 60)]
    rows = Rows()
    for i, text in enumerate(texts):
        rows.add(text, 0, list(range(3 * i, 3 * i + 3)), [0, len(text) - 1])
    logits = TorchRunner(model, pool_for(model, torch.float32, 9)).run(rows)
    with torch.inference_mode():
        expected = [model(torch.tensor([text]))[0, [0, -1]] for text in texts]
    torch.testing.assert_close(logits, torch.cat(expected), atol=2e-4, rtol=1e-4)
