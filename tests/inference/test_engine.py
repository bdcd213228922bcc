from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.inference.engine import Engine
from arriero.inference.grammar.spec import GrammarSpec
from arriero.inference.request import Completion, Event, QueueFullError, Request, RequestError, Sampling
from arriero.models.decoder import Decoder
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme, use_quantized_layers
from arriero.native import library
from arriero.tokenization.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0, max_tokens=24, ignore_end=True, logprobs=5)


def prompts(count: int, seed: int = 0, longest: int = 60) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, 261, rng.integers(1, longest)).tolist() for _ in range(count)]


def make(model: Decoder, tokenizer: Tokenizer, **options: Any) -> Engine:
    return Engine(model, tokenizer, **options)


# ---------------------------------------------------------------- the same numbers whatever the company


@pytest.mark.parametrize("chunk", [7, 512])
def test_cached_steps_equal_the_whole_recomputed(model: Decoder, tokenizer: Tokenizer, chunk: int) -> None:
    engine = make(model, tokenizer, max_batch=4, token_budget=chunk)
    asked = prompts(6)
    answers = engine.generate([Request(p, GREEDY) for p in asked])
    for prompt, answer in zip(asked, answers, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer.ids]))[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits.double(), -1)
        assert logits.argmax(-1).tolist() == answer.ids
        for step, (token, logprob, top) in enumerate(
            zip(answer.ids, answer.logprobs, answer.top, strict=True)
        ):
            assert logprob == pytest.approx(expected[step, token].item(), abs=1e-4)
            best = expected[step].topk(5)
            assert [t.logprob for t in top] == pytest.approx(best.values.tolist(), abs=1e-4)
            assert top[0].token_id == token


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=7, max_tokens=24, top_p=0.9, ignore_end=True)])
def test_a_request_alone_equals_the_same_in_a_crowd(
    model: Decoder, tokenizer: Tokenizer, sampling: Sampling
) -> None:
    asked = [Request(p, sampling) for p in prompts(9, seed=1)]
    alone = [make(model, tokenizer, max_batch=1).generate([r])[0].ids for r in asked]
    crowd = make(model, tokenizer, max_batch=5, token_budget=16).generate(asked)
    assert [c.ids for c in crowd] == alone


def test_grouped_heads_and_single_heads_both_work(tokenizer: Tokenizer, tiny: Callable[..., Decoder]) -> None:
    for kv_heads in (1, 2, 4):
        model = tiny(3, n_kv_heads=kv_heads)
        prompt = prompts(1, seed=3)[0]
        answer = Engine(model, tokenizer).generate([Request(prompt, GREEDY)])[0]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer.ids]))[0, len(prompt) - 1 : -1]
        assert logits.argmax(-1).tolist() == answer.ids


RULES: dict[str, dict[str, object]] = {
    "window": {"sliding_window": 5},
    "alibi": {"positions": "alibi", "norm": "layer", "embedding_norm": True},
    "alibi, six heads in two groups": {"positions": "alibi", "n_heads": 6, "head_dim": 8},
    "learned positions": {"positions": "learned", "norm": "layer", "gated": False, "qkv_bias": True},
    "sinusoids": {"positions": "sinusoidal", "arrangement": "post", "final_norm": False},
    "relative": {"positions": "relative", "gated": False, "activation": "gelu", "qkv_bias": True},
    "relative, a window, six heads in two groups": {
        "positions": "relative",
        "n_heads": 6,
        "head_dim": 8,
        "sliding_window": 5,
    },
    "top query": {
        "positions": "learned",
        "top_query": True,
        "norm": "layer",
        "gated": False,
        "activation": "gelu_quick",
    },
    "half of each head turns": {"rotary_dim": 4, "arrangement": "parallel", "parallel_norms": 1},
    "llama 3.1's frequencies": {
        "rope_scaling": {"kind": "llama3", "factor": 8.0, "original_context_length": 16}
    },
}


@pytest.mark.parametrize("switches", RULES.values(), ids=RULES.keys())
def test_every_way_to_tell_positions_is_cached_right(
    tokenizer: Tokenizer, tiny: Callable[..., Decoder], switches: dict[str, object]
) -> None:
    model, asked = tiny(5, **switches), prompts(5, seed=3)
    answers = make(model, tokenizer, max_batch=3, token_budget=7).generate(
        [Request(p, GREEDY) for p in asked]
    )
    for prompt, answer in zip(asked, answers, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer.ids]))[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits.double(), -1)
        chosen = expected.gather(1, torch.tensor(answer.ids)[:, None])[:, 0]
        assert answer.logprobs == pytest.approx(chosen.tolist(), abs=1e-4)
        assert logits.argmax(-1).tolist() == answer.ids


def test_seeds_repeat_under_load_and_differ_from_each_other(model: Decoder, tokenizer: Tokenizer) -> None:
    prompt = prompts(1)[0]
    requests = [Request(prompt, Sampling(seed=s, max_tokens=16, ignore_end=True)) for s in (1, 2, 1, 3, 1)]
    noise = [Request(p, Sampling(max_tokens=9, ignore_end=True)) for p in prompts(5, seed=4)]
    first = [c.ids for c in make(model, tokenizer, max_batch=2).generate(requests)]
    second = [c.ids for c in make(model, tokenizer, max_batch=8).generate([*noise, *requests])][5:]
    assert first == second
    assert first[0] == first[2] == first[4]
    assert len({tuple(ids) for ids in first}) == 3


def test_without_a_seed_answers_differ(model: Decoder, tokenizer: Tokenizer) -> None:
    request = Request(prompts(1)[0], Sampling(max_tokens=24, ignore_end=True))
    answers = make(model, tokenizer).generate([request] * 4)
    assert len({tuple(a.ids) for a in answers}) > 1


# ---------------------------------------------------------------- what fits


def test_what_cannot_fit_is_refused_with_the_figures(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"160 tokens, the context holds 160"):
        engine.submit(Request([9] * 160))
    with pytest.raises(RequestError, match=r"100 tokens and max_tokens 61 do not fit .* at most 60"):
        engine.submit(Request([9] * 100, Sampling(max_tokens=61)))
    with pytest.raises(RequestError, match="prompt is empty"):
        engine.submit(Request([]))
    with pytest.raises(RequestError, match="token id 261"):
        engine.submit(Request([5, 261]))
    assert engine.idle


def test_the_answer_may_fill_the_context_exactly(engine: Engine) -> None:
    for limit in (None, 60):
        answer = engine.generate([Request([9] * 100, Sampling(max_tokens=limit, ignore_end=True))])[0]
        assert len(answer.ids) == 60
        assert answer.finish_reason == "length"


def test_a_small_pool_bounds_what_runs_and_still_answers_all(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = make(model, tokenizer, max_batch=8, max_tokens_total=256)
    requests = [Request([9] * 50, Sampling(max_tokens=30, seed=i, ignore_end=True)) for i in range(6)]
    ids = [engine.submit(r) for r in requests]
    engine.step()
    assert (engine.running, engine.waiting) == (3, 3)  # a block each, and a spare one to grow into
    done: set[int] = set()
    while not engine.idle:
        done |= {e.request_id for e in engine.step() if e.finish_reason == "length"}
    assert done == set(ids)
    with pytest.raises(RequestError, match="key-value pool of 64"):
        make(model, tokenizer, max_tokens_total=64).submit(Request([9] * 50, Sampling(max_tokens=30)))


def test_the_waiting_queue_is_bounded(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = make(model, tokenizer, max_batch=1, max_waiting=2)
    for _ in range(2):
        engine.submit(Request([9], Sampling(max_tokens=2)))
    with pytest.raises(QueueFullError, match="2 requests are waiting"):
        engine.submit(Request([9], Sampling(max_tokens=2)))
    assert len(engine.generate([])) == 0
    engine.abort_all()
    assert len(engine.generate([Request([9], Sampling(max_tokens=2))] * 7)) == 7


def test_running_answers_go_on_while_a_long_prompt_is_read(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = make(model, tokenizer, max_batch=2, token_budget=10)
    first = engine.submit(Request([9], Sampling(max_tokens=50, ignore_end=True)))
    engine.step()
    second = engine.submit(Request([9] * 100, Sampling(max_tokens=1, ignore_end=True)))
    seen = []
    while second not in seen:
        seen += [e.request_id for e in engine.step()]
    assert seen.count(first) == 12  # one token beside each of the chunks of nine of the other's prompt


# ---------------------------------------------------------------- the same answers whatever the pool and the cache

FULL = Sampling(temperature=0, max_tokens=30, ignore_end=True, logprobs=1)


def same(found: list[Completion], expected: list[Completion], exact: bool = False) -> bool:
    """Equal tokens, and log-probabilities equal (to the bit, or to rounding)."""
    return all(
        a.ids == b.ids and a.logprobs == (b.logprobs if exact else pytest.approx(b.logprobs, abs=1e-4))
        for a, b in zip(found, expected, strict=True)
    )


SETTINGS = st.fixed_dictionaries(
    {
        "max_batch": st.integers(1, 6),
        "token_budget": st.sampled_from([2, 7, 33, 64, 300]),
        "max_tokens_total": st.integers(3, 8).map(lambda blocks: blocks * 64),
        "prefix_cache": st.booleans(),
        "reserve": st.sampled_from(["all", "grow"]),
        "runner": st.sampled_from(["auto", "torch"]),
    }
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    options=SETTINGS,
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=6),
    seed=st.integers(0, 9),
    shared=st.integers(0, 90),
    temperature=st.sampled_from([0, 1]),
)
def test_answers_do_not_depend_on_settings(
    tiny: Callable[..., Decoder], tokenizer: Tokenizer, options: dict[str, Any],
    lengths: list[int], seed: int, shared: int, temperature: int,
) -> None:  # fmt: skip
    """Batches, chunks, preemptions and reused prefixes change nothing."""
    model, rng = tiny(seed), np.random.default_rng(seed)
    start = rng.integers(5, 261, shared).tolist()
    asked = [
        Request(
            (start + rng.integers(5, 261, n).tolist())[-110:] if n % 2 else (start + [n + 5] * n)[:110],
            FULL.model_copy(update={"temperature": temperature, "seed": n}),
        )
        for n in lengths
    ]
    alone = [
        make(model, tokenizer, max_batch=1, prefix_cache=False, runner="torch").generate([r])[0]
        for r in asked
    ]
    engine = make(model, tokenizer, **options)
    for _ in range(2):  # the second time with whatever the first one left
        assert same(engine.generate(asked), alone)
        engine.check_integrity()
        assert engine.counters.blocks_used == 0


def low_bit(model: Decoder, bits: int) -> Decoder:
    """``model`` with random low-bit weights in the place of its own."""
    use_quantized_layers(model, WeightScheme(bits, 32))
    generator = torch.Generator().manual_seed(bits)
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            packed = module.weight_packed
            packed.copy_(torch.randint(-(2**31), 2**31, packed.shape, generator=generator))
            module.weight_scale.fill_(0.4 / module.scheme.largest)
    return model


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kv_dtype", ["fp32", "bf16", "int8"])
def test_low_bit_answers_are_the_same_to_the_bit(
    tiny: Callable[..., Decoder], tokenizer: Tokenizer, bits: int, kv_dtype: str
) -> None:
    if not library.available():
        pytest.skip("there is no native library here")
    model = low_bit(tiny(1, d_model=64, d_ff=64, head_dim=16), bits)
    asked = [
        Request(p, FULL.model_copy(update={"temperature": 1, "seed": 5, "max_tokens": 50}))
        for p in prompts(6, seed=2, longest=110)
    ]
    alone = [make(model, tokenizer, max_batch=1, prefix_cache=False, kv_dtype=kv_dtype) for _ in asked]
    assert alone[0].runner.batch_invariant
    expected = [engine.generate([r])[0] for engine, r in zip(alone, asked, strict=True)]
    for pool, reason in ((320, "preemptions"), (4096, "cached_tokens")):
        crowded = make(
            model, tokenizer, max_batch=5, token_budget=37, max_tokens_total=pool, kv_dtype=kv_dtype
        )
        for _ in range(2):
            assert same(crowded.generate(asked), expected, exact=True)
        assert getattr(crowded.counters, reason) > 0


def test_preempted_answers_come_out_the_same(model: Decoder, tokenizer: Tokenizer) -> None:
    asked = [Request(p, FULL.model_copy(update={"max_tokens": 90})) for p in prompts(5, seed=2, longest=40)]
    expected = make(model, tokenizer).generate(asked)
    for prefix_cache in (True, False):
        engine = make(model, tokenizer, max_tokens_total=256, prefix_cache=prefix_cache)
        assert same(engine.generate(asked), expected)
        assert engine.counters.preemptions > 0
        assert engine.counters.generated_tokens == 5 * 90


def test_shared_beginnings_are_computed_once(model: Decoder, tokenizer: Tokenizer) -> None:
    start = prompts(1, seed=9, longest=200)[0] * 4
    start = start[:130]
    engine = make(model, tokenizer)
    found = engine.generate(
        [Request([*start, i + 5], Sampling(max_tokens=3, ignore_end=True)) for i in range(3)]
    )
    assert [c.cached_tokens for c in found] == [0, 0, 0]  # they began together
    again = engine.generate(
        [Request([*start, i + 50], Sampling(max_tokens=3, ignore_end=True)) for i in range(3)]
    )
    assert [c.cached_tokens for c in again] == [128] * 3
    counters = engine.counters
    assert (counters.prompt_tokens, counters.cached_tokens) == (6 * 131, 3 * 128)
    assert counters.blocks_used == 0
    assert engine.pool.used > 0


def test_an_answer_is_a_prefix_too(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = make(model, tokenizer)
    first = engine.generate([Request([9] * 30, Sampling(max_tokens=60, ignore_end=True))])[0]
    second = engine.generate([Request([9] * 30 + first.ids + [7] * 5, Sampling(max_tokens=1))])[0]
    assert second.cached_tokens == 64


def test_changed_weights_are_noticed(tiny: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    model, asked = tiny(0), Request([9] * 100, FULL)
    engine = make(model, tokenizer)
    before = engine.generate([asked])
    assert engine.generate([asked])[0].cached_tokens == 64
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    model(torch.tensor([[9, 8, 7]])).sum().backward()
    optimizer.step()
    after = engine.generate([asked])
    assert not model.training
    assert after[0].cached_tokens == 0
    assert after[0].ids != before[0].ids
    assert same(after, make(model, tokenizer).generate([asked]))
    with torch.no_grad():
        model.load_state_dict(tiny(3).state_dict(), assign=True)
    assert same(engine.generate([asked]), make(tiny(3), tokenizer).generate([asked]))


@pytest.mark.parametrize(("kv_dtype", "close"), [("bf16", 0.2), ("int8", 0.3)])
def test_smaller_keys_and_values(
    tiny: Callable[..., Decoder], tokenizer: Tokenizer, kv_dtype: str, close: float
) -> None:
    model = tiny(0, init_std=0.15)
    asked = [
        Request(p, Sampling(temperature=0, max_tokens=1, logprobs=3, ignore_end=True))
        for p in prompts(6, longest=120)
    ]
    exact = make(model, tokenizer).generate(asked)
    engine = make(model, tokenizer, kv_dtype=kv_dtype, token_budget=20)
    for a, b in zip(engine.generate(asked), exact, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=close)
    assert engine.pool.bytes < make(model, tokenizer).pool.bytes


# ---------------------------------------------------------------- several answers, prompts' log-probabilities


@pytest.mark.parametrize(
    "options", [{}, {"max_batch": 2}, {"max_tokens_total": 192}, {"token_budget": 7}, {"reserve": "all"}]
)
@pytest.mark.parametrize("length", [1, 64, 100])
def test_several_answers_are_those_of_several_requests(
    model: Decoder, tokenizer: Tokenizer, options: dict[str, Any], length: int
) -> None:
    prompt = np.random.default_rng(3).integers(5, 261, length).tolist()
    sampling = Sampling(seed=11, max_tokens=30, ignore_end=True, logprobs=0)
    expected = make(model, tokenizer, prefix_cache=False, max_batch=5).generate(
        [Request(prompt, sampling, n=4)]
    )
    assert [c.index for c in expected] == [0, 1, 2, 3]
    assert len({tuple(c.ids) for c in expected}) == 4
    assert expected[0].ids == make(model, tokenizer).generate([Request(prompt, sampling)])[0].ids
    engine = make(model, tokenizer, **options)
    assert same(engine.generate([Request(prompt, sampling, n=4)]), expected)
    assert engine.counters.blocks_used == 0
    engine.check_integrity()


def test_a_prompt_is_read_once_for_all_its_answers(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = make(model, tokenizer, prefix_cache=False)
    found = engine.generate([Request([9] * 100, Sampling(max_tokens=5, ignore_end=True), n=4)])
    assert [c.cached_tokens for c in found] == [0, 100, 100, 100]
    assert engine.steps == 5
    engine.submit(Request([9] * 100, Sampling(max_tokens=50, ignore_end=True), n=4))
    engine.step()
    assert engine.counters.blocks_used == 1 + 4  # a full block of all, the last one of each


def test_the_best_of_several(model: Decoder, tokenizer: Tokenizer) -> None:
    prompt, sampling = [9] * 20, Sampling(seed=4, max_tokens=12, ignore_end=True, logprobs=0)
    all_five = make(model, tokenizer).generate([Request(prompt, sampling, n=5)])
    engine = make(model, tokenizer)
    best = engine.generate([Request(prompt, sampling, n=2, best_of=5)])
    expected = sorted(all_five, key=lambda c: -sum(c.logprobs) / len(c.logprobs))[:2]
    assert [c.ids for c in best] == [c.ids for c in expected]
    assert [c.index for c in best] == [0, 1]
    assert engine.idle


@pytest.mark.parametrize("options", [{}, {"token_budget": 7}, {"max_tokens_total": 192}])
def test_log_probabilities_of_the_prompt(
    model: Decoder, tokenizer: Tokenizer, options: dict[str, Any]
) -> None:
    asked = prompts(4, seed=6, longest=120)
    engine = make(model, tokenizer, **options)
    requests = [
        Request(p, Sampling(max_tokens=2, prompt_logprobs=2, seed=1, ignore_end=True), n=2) for p in asked
    ]
    for _ in range(2):  # a cached prompt has log-probabilities all the same
        found = engine.generate(requests)
        for i, prompt in enumerate(asked):
            with torch.inference_mode():
                expected = torch.log_softmax(model(torch.tensor([prompt]))[0].double(), -1)
            told = found[2 * i].prompt_logprobs
            assert [t.token_id for t in told] == prompt
            assert told[0].logprob is None
            wanted = [expected[at, token].item() for at, token in enumerate(prompt[1:])]
            assert [t.logprob for t in told[1:]] == pytest.approx(wanted, abs=1e-4)
            for at, token in enumerate(told[1:]):
                assert [t.logprob for t in token.top] == pytest.approx(
                    expected[at].topk(2).values.tolist(), abs=1e-4
                )
            assert found[2 * i + 1].prompt_logprobs == ()
    assert engine.counters.blocks_used == 0


# ---------------------------------------------------------------- guesses


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("with_draft", [True, False])
def test_guesses_change_no_answer(
    tiny: Callable[..., Decoder], tokenizer: Tokenizer, temperature: float, with_draft: bool
) -> None:
    model = tiny(0)
    sampling = Sampling(temperature=temperature, seed=3, max_tokens=60, ignore_end=True, logprobs=0)
    asked = [
        Request(p, sampling, speculative="draft" if with_draft else "prompt") for p in prompts(5, longest=50)
    ]
    plain = [Request(r.prompt, r.sampling, speculative="off") for r in asked]
    engine = make(model, tokenizer, draft=tiny(0) if with_draft else None, max_tokens_total=512, max_batch=3)
    assert same(engine.generate(asked), make(model, tokenizer).generate(plain))
    counters = engine.counters
    assert counters.spec_accepted <= counters.spec_proposed
    if with_draft:  # the model is its own draft
        assert counters.spec_accepted > 0
    engine.check_integrity()
    assert counters.blocks_used == 0


@pytest.mark.parametrize("temperature", [0, 0.6])
@pytest.mark.parametrize("way", ["prompt", "draft", "auto"])
def test_guesses_change_no_bit_of_low_bit_answers(
    tiny: Callable[..., Decoder],
    tokenizer: Tokenizer,
    temperature: float,
    way: Literal["prompt", "draft", "auto"],
) -> None:
    if not library.available():
        pytest.skip("there is no native library here")
    model = low_bit(tiny(1, d_model=64, d_ff=64, head_dim=16), 8)
    sampling = Sampling(temperature=temperature, seed=3, max_tokens=60, ignore_end=True, logprobs=3)
    asked = [Request([*p, *p[:3]], sampling, speculative=way) for p in prompts(5, longest=40)]
    plain = [Request(r.prompt, sampling, speculative="off") for r in asked]
    engine = make(model, tokenizer, draft=None if way == "prompt" else tiny(1, n_layers=1), max_batch=3)
    assert engine.runner.batch_invariant
    assert same(engine.generate(asked), make(model, tokenizer).generate(plain), exact=True)
    assert engine.counters.spec_proposed > 0


def test_nobody_guesses_unasked_where_bits_could_change(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = make(model, tokenizer, runner="torch")
    engine.generate([Request([9, 8] * 20, Sampling(temperature=0, max_tokens=40, ignore_end=True))])
    assert engine.counters.spec_proposed == 0


# ---------------------------------------------------------------- aborts


def test_grammars_are_waited_for_by_their_own_requests_alone(model: Decoder, tokenizer: Tokenizer) -> None:
    pytest.importorskip("llguidance")
    engine, sampling = make(model, tokenizer), Sampling(max_tokens=20, seed=1)
    found = engine.generate([Request([9] * 10, sampling, n=3, grammar=GrammarSpec("regex", "[ab]{4}"))])
    assert all(set(c.text) <= set("ab") and len(c.text) == 4 for c in found)
    free = engine.submit(Request([9], sampling))
    wrong = engine.submit(Request([9], sampling, grammar=GrammarSpec("regex", "(")))
    ended: dict[int, str | None] = {}
    while not engine.idle:
        ended |= {e.request_id: e.finish_reason for e in engine.step() if e.finish_reason}
    assert ended[wrong] == "error"
    assert ended[free] in ("stop", "length")
    engine.check_integrity()


ACTIONS = ["submit", "several", "best", "scored", "step", "step", "step", "abort", "abort"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    actions=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 99)), max_size=60),
    blocks=st.integers(3, 9),
    reserve=st.sampled_from(["all", "grow"]),
    prefix_cache=st.booleans(),
)
def test_random_aborts_leak_no_place(
    model: Decoder,
    tokenizer: Tokenizer,
    actions: list[tuple[str, int]],
    blocks: int,
    reserve: str,
    prefix_cache: bool,
) -> None:
    engine = make(
        model, tokenizer, max_batch=4, token_budget=48, max_tokens_total=64 * blocks, reserve=reserve,
        prefix_cache=prefix_cache,
    )  # fmt: skip
    live: list[int] = []
    kinds: dict[str, dict[str, Any]] = {
        "submit": {},
        "several": {"n": 3},
        "best": {"n": 1, "best_of": 3},
        "scored": {},
    }
    for action, number in actions:
        if action in kinds:
            scored = 1 if action == "scored" else None
            sampling = Sampling(max_tokens=1 + number % 40, seed=number, prompt_logprobs=scored)
            live.append(engine.submit(Request([5 + number % 3] * (1 + number), sampling, **kinds[action])))
        elif action == "step":
            engine.step()
            live = [i for i in live if i in engine._groups]
        elif live:
            event = engine.abort(live.pop(number % len(live)))
            assert event is not None
            assert event.finish_reason == "abort"
        engine.check_integrity()
        assert engine.idle == (not live)
    assert len(engine.abort_all()) == len(live)
    assert engine.idle
    engine.check_integrity()
    assert engine.counters.blocks_used == 0
    assert engine.abort(1) is None


def test_a_thousand_random_aborts_disturb_no_one(model: Decoder, tokenizer: Tokenizer) -> None:
    steady = Request(prompts(1, seed=8)[0], Sampling(temperature=0, max_tokens=90, ignore_end=True))
    expected = make(model, tokenizer, max_batch=1).generate([steady])[0].ids
    engine = make(model, tokenizer, max_batch=4, token_budget=24, max_tokens_total=320)
    rng, aborted = np.random.default_rng(0), 0
    while aborted < 1000:
        got: list[int] = []
        watched = engine.submit(steady)
        victims: list[int] = []
        while len(got) < 90:
            for prompt in prompts(8, seed=aborted, longest=90):
                if engine.waiting < 40:
                    victims.append(
                        engine.submit(Request(prompt, Sampling(max_tokens=40), n=int(rng.integers(1, 3))))
                    )
            got += [e.token_id for e in engine.step() if e.request_id == watched and e.token_id is not None]
            for _ in range(7):
                if victims:
                    aborted += engine.abort(victims.pop(rng.integers(len(victims)))) is not None
            engine.check_integrity()
        assert got == expected
        engine.abort_all()
    assert engine.counters.blocks_used == 0
    assert engine.counters.aborted >= 1000


def test_closing_a_stream_frees_its_place(engine: Engine) -> None:
    stream = engine.stream(Request([9], Sampling(max_tokens=50, ignore_end=True)))
    next(stream)
    assert engine.running == 1
    stream.close()
    assert engine.idle
    assert engine.counters.blocks_used == 0


# ---------------------------------------------------------------- loading, damaged models


def test_a_model_that_gives_nan_is_told(tokenizer: Tokenizer, tiny: Callable[..., Decoder]) -> None:
    model = tiny(0)
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    engine = Engine(model, tokenizer)
    with pytest.raises(ArrieroError, match="not a number"):
        engine.generate([Request([9, 9])])
    assert engine.counters.blocks_used == 0


@pytest.mark.parametrize("kv_dtype", ["fp32", "int8"])
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_a_request_of_nan_harms_no_other(
    tiny: Callable[..., Decoder], tokenizer: Tokenizer, kv_dtype: str, prefix_cache: bool
) -> None:
    """Neither beside it, nor later in the blocks that it leaves."""
    model = tiny(0, tie_embeddings=False)
    with torch.no_grad():
        model.embedding.weight[200] = float("nan")
    sampling = Sampling(temperature=0, max_tokens=20, ignore_end=True, logit_bias={200: -100})
    good = [Request([9 + i, 7, 8] * (5 + i), sampling) for i in range(4)]
    settings = {"runner": "torch", "kv_dtype": kv_dtype, "prefix_cache": prefix_cache}
    expected = [make(model, tokenizer, **settings).generate([r])[0].ids for r in good]
    engine = make(model, tokenizer, max_tokens_total=640, **settings)
    for request in good:
        engine.submit(Request([9, 200] * 40, sampling))
        engine.submit(request)
    found: dict[int, list[Event]] = {}
    while not engine.idle:
        for event in engine.step():
            found.setdefault(event.request_id, []).append(event)
    failed = [e for events in found.values() for e in events if e.finish_reason == "error"]
    assert [e.error is not None and "not a number" in e.error for e in failed] == [True] * 4
    assert [[e.token_id for e in found[2 * i + 2]] for i in range(4)] == expected
    assert [c.ids for _ in range(3) for c in engine.generate(good)] == expected * 3
    engine.check_integrity()


def test_ids_beyond_the_tokenizer_are_never_chosen(
    tokenizer: Tokenizer, tiny: Callable[..., Decoder]
) -> None:
    engine = Engine(tiny(0, vocab_size=400), tokenizer)
    answers = engine.generate(
        [Request([9], Sampling(max_tokens=60, ignore_end=True, seed=s)) for s in range(4)]
    )
    assert max(max(a.ids) for a in answers) < 261
    with pytest.raises(ArrieroError, match="don't belong together"):
        Engine(tiny(0, vocab_size=200), tokenizer)


def test_load_from_a_model_folder(model: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from arriero.models.checkpoint import save_model

    save_model(model, tmp_path)
    tokenizer.save(tmp_path)
    asked = Request(prompts(1)[0], GREEDY)
    loaded: Completion = Engine.load(tmp_path).generate([asked])[0]
    assert loaded.ids == make(model, tokenizer).generate([asked])[0].ids
    with pytest.raises(ArrieroError, match="neither the folder of a model"):
        Engine.load(tmp_path / "nowhere")
    with pytest.raises(ArrieroError):
        Engine.load(tmp_path.parent / "also-nowhere")
