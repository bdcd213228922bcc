"""FLOPs of every family and objective, to the last digit those of torch's counter around a real training step.

What that counter counts wrongly is said, and put right, in ``tests/planning/oracle.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.planning.oracle import real_step, subject
from tests.planning.small_models import DECODERS, PRESETS, small

from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.objectives import resolve_objective
from arriero.planning.counts.workload import workload_of

pytestmark = pytest.mark.parity
ENCODERS = ("bert", "roberta", "albert", "deberta", "deberta_v2", "longformer")


def predicted(config: ModelConfig, rows: int, mode: Any = "none", **asked: Any) -> float:
    """Forward and backward of so many rows, by the workload."""
    found = workload_of(config, modes=(mode,), **asked)
    assert not found.uncounted
    return rows * (found.forward + found.backward + found.recomputed(mode)).flops + found.once.flops


def check(config: ModelConfig, objective: str, context: int, rows: int, **changes: Any) -> None:
    config, name = resolve_objective(config, objective)
    scored = changes.get("scored", context)
    asked = {
        "scored": scored / context,
        "dtype": changes.get("dtype", "fp32"),
        "lora_rank": changes.get("rank", 0),
    }
    asked["lora_targets"] = changes.get("targets", "all-linear")
    if name == "seq2seq":
        source = changes["source"]
        asked |= {"source": source, "scored": 1.0}
        changes["scored"] = context - source
    real = real_step(subject(name, context, **changes), config, rows)
    assert predicted(config, rows, context=context, objective=name, **asked) == real


@pytest.mark.parametrize("family", PRESETS)
def test_every_family_takes_what_torch_counts(family: str) -> None:
    config = small(family)
    pairs = hasattr(config, "encoder_layers")
    check(config, "auto", 37, 3, **({"source": 15} if pairs else {}))


@pytest.mark.parametrize("family", ["llama", "mistral", "bloom", "gopher", "bert", "deberta", "albert"])
@pytest.mark.slow
@pytest.mark.parametrize("context", [33, 600])
def test_bf16_too_short_rows_and_long_ones(family: str, context: int) -> None:
    config = small(family, 2, context_length=640)
    check(config, "auto", context, 1, dtype="bf16")


@pytest.mark.parametrize("objective", ["sft", "dpo", "scalar"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_objectives_of_decoders(family: str, objective: str) -> None:
    check(small(family), objective, 29, 2 if objective == "dpo" else 3, scored=11)


@pytest.mark.parametrize("objective", ["masked", "next_sentence", "sentence_order", "regression"])
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_objectives_of_encoders(family: str, objective: str) -> None:
    check(small(family), objective, 31, 3, scored=5)


@pytest.mark.parametrize("targets", ["all-linear", "q_proj,v_proj", "down_proj"])
def test_adapters_leave_out_the_gradients_that_nobody_needs(targets: str) -> None:
    check(small("llama"), "sft", 23, 2, rank=3, targets=targets)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["selective", "full"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "bert", "t5"])
def test_recomputation_counts_what_torch_really_works_out_again(family: str, mode: Any) -> None:
    """torch stops a block's second forward pass at the last thing that is needed: less than a whole pass."""
    config = small(family)
    pairs = hasattr(config, "encoder_layers")
    extra = {"source": 12} if pairs else {}
    config, name = resolve_objective(config, "auto")
    scored = {"scored": 25 - 12} if pairs else {}
    real = real_step(subject(name, 25, **extra, **scored), config, 2, recompute=mode)
    assert predicted(config, 2, mode, context=25, objective=name, **extra) == real


@pytest.mark.slow
@pytest.mark.parametrize("family", DECODERS)
def test_the_full_square_is_said_where_half_of_it_counts(family: str) -> None:
    config = small(family)
    found = workload_of(config, context=21, modes=())
    real = real_step(subject("causal", 21), config, 1, half=False)
    attention = found.forward.attention + found.backward.attention
    assert (
        found.forward.flops + found.backward.flops + found.once.flops + attention * (found.square - 1) == real
    )


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    d_model=st.integers(3, 40), heads=st.sampled_from([(1, 1), (2, 1), (3, 3), (6, 2)]), head_dim=st.integers(1, 9),
    d_ff=st.integers(1, 60), vocab=st.integers(2, 300), layers=st.integers(1, 5), context=st.integers(2, 70),
    rows=st.integers(1, 5), tie=st.booleans(), arrangement=st.sampled_from(["pre", "post", "parallel"]),
    gated=st.booleans(), window=st.sampled_from([None, 5]),
)  # fmt: skip
def test_decoders_of_any_odd_size(
    d_model: int, heads: tuple[int, int], head_dim: int, d_ff: int, vocab: int, layers: int, context: int, rows: int,
    tie: bool, arrangement: Any, gated: bool, window: int | None,
) -> None:  # fmt: skip
    config = DecoderConfig(
        vocab_size=vocab, d_model=d_model, n_layers=layers, n_heads=heads[0], n_kv_heads=heads[1],
        head_dim=2 * head_dim, d_ff=d_ff, context_length=context, tie_embeddings=tie, arrangement=arrangement,
        gated=gated, sliding_window=window,
    )  # fmt: skip
    check(config, "causal", context, rows)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    family=st.sampled_from(ENCODERS), layers=st.integers(1, 4), context=st.integers(3, 40), rows=st.integers(1, 3),
    share=st.floats(0.1, 1.0),
)  # fmt: skip
def test_encoders_of_any_length(family: str, layers: int, context: int, rows: int, share: float) -> None:
    check(small(family, layers), "masked", context, rows, scored=max(1, round(share * context)))


@pytest.mark.slow
def test_a_large_head_is_linear_in_the_positions_it_is_not_traced_for() -> None:
    """More positions than the head works through at a time: traced at one and two parts of them."""
    config = small("gpt2", 1, vocab_size=40_000, context_length=3000)
    torch.manual_seed(0)
    check(config, "causal", 2600, 1)
