"""The native runner against the model's own forward pass, and its bits against themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.compression.rounding import quantize_model
from arriero.errors import ArrieroError
from arriero.inference.kv_pool import CacheShape, KVPool
from arriero.inference.native_runner import NativeRunner, why_no_runner
from arriero.inference.rows import Rows
from arriero.inference.runners import make_runner
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.quantized import WeightScheme
from arriero.native import library

pytestmark = pytest.mark.skipif(not library.available(), reason="the native library was not built")


def make(seed: int = 0, **changes: Any) -> Decoder:
    values: dict[str, Any] = {
        "vocab_size": 61, "d_model": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 96,
        "context_length": 400, "rope_theta": 1e4,
    }  # fmt: skip
    model = Decoder(DecoderConfig.parse(values | changes, "test"))
    model.init_weights(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.15)
    return model.eval()


def low_bit(bits: int, group: int | None = 32, seed: int = 0, **changes: Any) -> Decoder:
    model = make(seed, **changes)
    quantize_model(model, WeightScheme(bits, group), torch.float32)
    return model


def pool_for(model: Decoder, dtype: torch.dtype = torch.float32, tokens: int = 1024) -> KVPool:
    config = model.config
    return KVPool(CacheShape(config.n_layers, config.n_kv_heads, config.head_dim, dtype), tokens)


def tokens(count: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 61, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def in_pieces(runner: NativeRunner, ids: list[int], cuts: list[int]) -> Tensor:
    """Logits of all rows of one sequence that comes in pieces."""
    blocks = runner.pool.allocate(-(-len(ids) // 64))
    assert blocks is not None
    found, stored, turn = [], 0, 0
    while stored < len(ids):
        count = min(cuts[turn % len(cuts)], len(ids) - stored)
        rows = Rows()
        rows.add(ids[stored : stored + count], stored, blocks, list(range(count)))
        found.append(runner.run(rows))
        stored, turn = stored + count, turn + 1
    runner.pool.release(blocks)
    return torch.cat(found)


@torch.no_grad()
def expected(model: Decoder, ids: list[int]) -> Tensor:
    return model(torch.tensor([ids]))[0].float()


SWITCHES = st.fixed_dictionaries(
    {
        "norm": st.sampled_from(["rms", "layer"]),
        "norm_bias": st.booleans(),
        "arrangement": st.sampled_from(["pre", "post", "parallel"]),
        "parallel_norms": st.sampled_from([1, 2]),
        "final_norm": st.booleans(),
        "positions": st.sampled_from(["rotary", "learned", "alibi", "sinusoidal", "none"]),
        "activation": st.sampled_from(["silu", "gelu", "gelu_tanh", "gelu_quick", "relu"]),
        "gated": st.booleans(),
        "qkv_bias": st.booleans(),
        "out_bias": st.booleans(),
        "feed_forward_bias": st.booleans(),
        "head_bias": st.booleans(),
        "tie_embeddings": st.booleans(),
        "sliding_window": st.sampled_from([None, 1, 9]),
        "n_kv_heads": st.sampled_from([1, 2, 4]),
        "head_dim": st.sampled_from([6, 16, 20]),
        "n_layers": st.sampled_from([1, 3]),
        "d_ff": st.sampled_from([40, 96]),
    }
)


@settings(max_examples=30, deadline=None)
@given(
    switches=SWITCHES,
    extra=st.booleans(),
    cuts=st.lists(st.integers(1, 16), min_size=1, max_size=3),
)
def test_logits_equal_the_models_own(switches: dict[str, Any], extra: bool, cuts: list[int]) -> None:
    if extra and switches["positions"] == "learned":
        switches = switches | {"position_offset": 2}
    if extra and switches["positions"] == "rotary":
        switches = switches | {"rotary_dim": 4, "rope_scaling": {"kind": "linear", "factor": 2.0}}
    if extra and switches["norm"] == "layer":
        switches = switches | {"embedding_norm": True}
    model = make(**switches)
    ids = tokens(70)
    found = in_pieces(NativeRunner(model, pool_for(model)), ids, cuts)
    torch.testing.assert_close(found, expected(model, ids), atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 64, None])
def test_low_bit_logits(bits: int, group: int | None) -> None:
    if bits == 4 and group is None:
        pytest.skip("int4 has groups")
    model = low_bit(bits, group, d_ff=128)
    from arriero.native.linear import exact_products

    with exact_products():
        wanted = expected(model, tokens(50))
    found = in_pieces(NativeRunner(model, pool_for(model)), tokens(50), [50])
    assert (found - wanted).norm() < 0.03 * wanted.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("head", ["as_is", "int8"])
def test_bits_of_low_bit_models_do_not_depend_on_cuts_batch_or_threads(dtype: torch.dtype, head: Any) -> None:
    model = low_bit(4, n_heads=6, head_dim=16, d_model=96)
    ids = tokens(330)
    before = torch.get_num_threads()
    whole = in_pieces(NativeRunner(model, pool_for(model, dtype), head=head), ids, [330])
    try:
        for threads, cuts in ((1, [1]), (2, [100, 3]), (3, [64]), (4, [17])):
            torch.set_num_threads(threads)
            runner = NativeRunner(model, pool_for(model, dtype), head=head)
            assert torch.equal(in_pieces(runner, ids, cuts), whole), (threads, cuts)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(beside_others(NativeRunner(model, pool_for(model, dtype), head=head), ids, 90), whole)


def test_bits_of_dense_models_do_not_depend_on_cuts_up_to_16_rows() -> None:
    for model in (make(), make().to(torch.bfloat16)):
        ids = tokens(100)
        one = in_pieces(NativeRunner(model, pool_for(model)), ids, [1])
        assert torch.equal(in_pieces(NativeRunner(model, pool_for(model)), ids, [16, 5]), one)
        assert torch.equal(beside_others(NativeRunner(model, pool_for(model)), ids, 11), one)


def beside_others(runner: NativeRunner, ids: list[int], count: int) -> Tensor:
    """As :func:`in_pieces`, with two other sequences in each step, one of which says nothing."""
    blocks = [runner.pool.allocate(5 + (number == 1)) for number in range(3)]
    others = [tokens(len(ids), 1), tokens(len(ids), 2)]
    found = []
    for stored in range(0, len(ids), count):
        rows = Rows()
        here = slice(stored, stored + count)
        rows.add(others[0][:3], stored // count * 3, blocks[0] or [], [0, 2])
        span = rows.add(ids[here], stored, blocks[1] or [], list(range(len(ids[here]))))
        rows.add(others[1][:1], stored // count, blocks[2] or [], [])
        found.append(runner.run(rows)[len([row for row in rows.wanted if row < span.first]) :])
    return torch.cat(found)


def test_long_spans_of_dense_models_go_through_the_model() -> None:
    model = make()
    ids = tokens(90)
    runner = NativeRunner(model, pool_for(model))
    assert not runner.batch_invariant
    torch.testing.assert_close(in_pieces(runner, ids, [40, 1]), expected(model, ids), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(beside_others(runner, ids, 30), expected(model, ids), atol=2e-4, rtol=1e-4)


def test_changed_weights_are_read_again() -> None:
    for model in (make(), low_bit(8)):
        runner = NativeRunner(model, pool_for(model))
        before = in_pieces(runner, tokens(9), [9])
        with torch.no_grad():
            model.blocks[0].attention_norm.weight.mul_(2)
            model.embedding.weight.mul_(1.5)
        if hasattr(model.blocks[0].attention.q_proj, "weight_scale"):
            model.blocks[0].attention.q_proj.weight_scale.mul_(0.5)
        runner.refresh()
        after = in_pieces(runner, tokens(9), [9])
        assert not torch.equal(before, after)
        assert torch.equal(after, in_pieces(NativeRunner(model, pool_for(model)), tokens(9), [9]))


def test_int8_head_is_near() -> None:
    model = low_bit(8)
    plain = in_pieces(NativeRunner(model, pool_for(model)), tokens(30), [30])
    short = in_pieces(NativeRunner(model, pool_for(model), head="int8"), tokens(30), [30])
    assert not torch.equal(plain, short)
    assert (plain - short).norm() < 0.02 * plain.norm()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"positions": "relative"}, "relative"),
        ({"positions": "learned", "top_query": True}, "top query"),
        ({"rope_scaling": {"kind": "dynamic", "factor": 2.0}}, "dynamic"),
    ],
)
def test_what_it_cannot_do_is_said(changes: dict[str, Any], reason: str) -> None:
    model = make(**changes)
    assert reason in (why_no_runner(model, pool_for(model)) or "")
    with pytest.raises(ArrieroError, match=reason):
        NativeRunner(model, pool_for(model))


def test_other_element_types_are_refused() -> None:
    assert "float16" in (why_no_runner(make().half(), pool_for(make())) or "")
    assert "float16" in (why_no_runner(make(), pool_for(make(), torch.float16)) or "")
    assert why_no_runner(make(), pool_for(make())) is None


def test_a_wrong_layer_is_named() -> None:
    class Other(torch.nn.Linear):
        pass

    model = make()
    model.blocks[1].feed_forward.up_proj = Other(64, 96)
    assert "blocks.1.feed_forward.up_proj: Other" in (why_no_runner(model, pool_for(model)) or "")


def test_wrong_rows_are_refused() -> None:
    model = make()
    runner = NativeRunner(model, pool_for(model))
    for ids, stored, blocks, reason in (
        ([61], 0, [0], "id"), ([-1], 0, [0], "id"), ([1], 400, list(range(7)), "context"), ([1] * 3, 62, [0], "blocks"),
    ):  # fmt: skip
        rows = Rows()
        rows.add(ids, stored, blocks, [0])
        with pytest.raises(ArrieroError, match=reason):
            runner.run(rows)


def test_an_int8_head_needs_the_native_runner() -> None:
    model = make()
    made = make_runner("auto", model, pool_for(model), None, "int8")
    assert isinstance(made, NativeRunner) and made.head == "int8"
    with pytest.raises(ArrieroError, match="runner torch is asked for"):
        make_runner("torch", model, pool_for(model), None, "int8")
