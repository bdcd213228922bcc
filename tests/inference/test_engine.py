from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.inference.engine import Engine
from arriero.inference.request import Completion, QueueFullError, Request, RequestError, Sampling
from arriero.models.decoder import Decoder
from arriero.tokenization.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0, max_tokens=24, ignore_end=True, logprobs=5)


def prompts(count: int, seed: int = 0, longest: int = 60) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, 261, rng.integers(1, longest)).tolist() for _ in range(count)]


def make(model: Decoder, tokenizer: Tokenizer, **options: int) -> Engine:
    return Engine(model, tokenizer, **options)


# ---------------------------------------------------------------- the same numbers whatever the company


@pytest.mark.parametrize("chunk", [7, 512])
def test_cached_steps_equal_the_whole_recomputed(model: Decoder, tokenizer: Tokenizer, chunk: int) -> None:
    engine = make(model, tokenizer, max_batch=4, prefill_chunk=chunk)
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
    crowd = make(model, tokenizer, max_batch=5, prefill_chunk=16).generate(asked)
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
    answers = make(model, tokenizer, max_batch=3, prefill_chunk=7).generate(
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
    assert (engine.running, engine.waiting) == (2, 4)  # rows of 128 places
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
    engine = make(model, tokenizer, max_batch=2, prefill_chunk=10)
    first = engine.submit(Request([9], Sampling(max_tokens=50, ignore_end=True)))
    engine.step()
    second = engine.submit(Request([9] * 100, Sampling(max_tokens=1, ignore_end=True)))
    seen = []
    while second not in seen:
        seen += [e.request_id for e in engine.step()]
    assert seen.count(first) == 10  # one token between any two chunks of the other's prompt


# ---------------------------------------------------------------- aborts


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["submit", "step", "abort"]), st.integers(0, 99)), max_size=60))
def test_random_aborts_leak_no_place(
    model: Decoder, tokenizer: Tokenizer, actions: list[tuple[str, int]]
) -> None:
    engine = Engine(model, tokenizer, max_batch=3, prefill_chunk=8)
    live: list[int] = []
    for action, number in actions:
        if action == "submit":
            sampling = Sampling(max_tokens=1 + number % 7, seed=number)
            live.append(engine.submit(Request([5 + number] * (1 + number % 30), sampling)))
        elif action == "step":
            ended = {e.request_id for e in engine.step() if e.finish_reason}
            live = [i for i in live if i not in ended]
        elif live:
            event = engine.abort(live.pop(number % len(live)))
            assert event is not None
            assert event.finish_reason == "abort"
        assert engine.pool.used == engine.running
        assert engine.running + engine.waiting == len(live)
    assert len(engine.abort_all()) == len(live)
    assert engine.idle
    assert engine.pool.used == 0
    assert engine.abort(1) is None


def test_two_hundred_aborts_disturb_no_one(model: Decoder, tokenizer: Tokenizer) -> None:
    steady = Request(prompts(1, seed=8)[0], Sampling(temperature=0, max_tokens=90, ignore_end=True))
    expected = make(model, tokenizer, max_batch=1).generate([steady])[0].ids
    engine = make(model, tokenizer, max_batch=4, prefill_chunk=16)
    rng = np.random.default_rng(0)
    got: list[int] = []
    watched = engine.submit(steady)
    victims: list[int] = []
    aborted = 0
    while len(got) < 90:
        victims += [engine.submit(Request(p, Sampling(max_tokens=40))) for p in prompts(3, seed=len(got))]
        got += [e.token_id for e in engine.step() if e.request_id == watched and e.token_id is not None]
        for _ in range(3):
            aborted += engine.abort(victims.pop(rng.integers(len(victims)))) is not None
    assert got == expected
    assert aborted >= 200
    engine.abort_all()
    assert engine.pool.used == 0


def test_closing_a_stream_frees_its_place(engine: Engine) -> None:
    stream = engine.stream(Request([9], Sampling(max_tokens=50, ignore_end=True)))
    next(stream)
    assert engine.running == 1
    stream.close()
    assert engine.idle
    assert engine.pool.used == 0


# ---------------------------------------------------------------- loading, damaged models


def test_a_model_that_gives_nan_is_told(tokenizer: Tokenizer, tiny: Callable[..., Decoder]) -> None:
    model = tiny(0)
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    engine = Engine(model, tokenizer)
    with pytest.raises(ArrieroError, match="not a number"):
        engine.generate([Request([9, 9])])
    assert engine.pool.used == 0


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
