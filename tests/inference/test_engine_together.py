"""Everything at once: adapters, grammars, guesses, several answers, stop strings, small pools, int8 keys and values.

Each has its own tests; here a crowd that mixes them answers as each request does alone, to the bit.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.compression.rounding import quantize_model
from arriero.inference.engine import Engine
from arriero.inference.grammar.library import available as grammars_available
from arriero.inference.grammar.spec import GrammarSpec
from arriero.inference.request import Completion, Event, Request, RequestError, Sampling
from arriero.models.decoder import Decoder
from arriero.models.layers.quantized import WeightScheme
from arriero.native import library
from arriero.tokenization.tokenizer import Tokenizer
from arriero.tuning.lora import adapters as lora_layers
from arriero.tuning.lora import apply_lora, save_adapter

low_bit_only = pytest.mark.skipif(
    not library.available(), reason="bits are the same with the native library only"
)
SCHEMA = {
    "type": "object",
    "properties": {
        "who": {"enum": ["añ\u2028", "\U0001f600", 'q"\\']},
        "n": {"type": "integer", "maximum": 99},
    },
    "required": ["who", "n"],
    "additionalProperties": False,
}
FORMS = (GrammarSpec("regex", "[a-f]{5,80}z"), GrammarSpec("json_schema", json.dumps(SCHEMA)))


@pytest.fixture(scope="module")
def base(tiny: Callable[..., Decoder], tmp_path_factory: pytest.TempPathFactory) -> tuple[Decoder, Path]:
    """An int8 model, and the folder of an adapter that was made for what it was rounded from."""
    model = tiny(1, d_model=64, d_ff=64, head_dim=16, context_length=256)
    folder = tmp_path_factory.mktemp("adapter")
    adapted = copy.deepcopy(model)
    apply_lora(adapted, 5, 10, 0.0, ["q_proj", "v_proj", "up_proj", "down_proj"], seed=0)
    for number, layer in enumerate(lora_layers(adapted).values()):
        torch.nn.init.normal_(layer.lora_B, 0, 0.3, torch.Generator().manual_seed(number))
    save_adapter(adapted, folder)
    quantize_model(model, WeightScheme(8, 32), torch.float32)
    return model, folder


def make(base: tuple[Decoder, Path], tokenizer: Tokenizer, **options: Any) -> Engine:
    engine = Engine(base[0], tokenizer, **options)
    engine.adapters.load("red", base[1])
    return engine


def crowd(tokenizer: Tokenizer, kinds: list[tuple[int, int]], longer: int = 0) -> list[Request]:
    """Requests by (which mixture, seed), with up to ``longer`` more tokens; many begin with the same 70 tokens."""
    start = tokenizer.encode("¿Qué? " * 10)[:70]
    asked = []
    for mixture, seed in kinds:
        own = tokenizer.encode(f"{seed} → été " * (1 + seed % 3))
        grammar = (*FORMS, None)[mixture % 3] if grammars_available() else None
        sampling = Sampling(
            seed=seed, max_tokens=20 + mixture + longer, logprobs=1, ignore_end=longer > 0, temperature=0 if mixture % 4 == 3 else 0.9,
            stop=("é", "ab") if mixture % 2 and grammar is None else (), top_p=0.95, min_p=0.01,
            repetition_penalty=1.1 if mixture % 5 == 2 else 1.0, logit_bias={40: 2.0} if mixture % 2 else {},
        )  # fmt: skip
        asked.append(
            Request(
                (start if mixture % 2 else []) + own,
                sampling,
                n=1 + mixture % 2,
                adapter="red" if mixture % 3 == 1 else None,
                grammar=grammar,
                speculative="prompt" if mixture % 2 == 0 else "off",
            )
        )
    return asked


def told(completion: Completion) -> tuple[Any, ...]:
    return completion.ids, completion.text, completion.logprobs, completion.finish_reason


@low_bit_only
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 9)), min_size=3, max_size=7),
    kv_dtype=st.sampled_from(["fp32", "int8"]),
    blocks=st.sampled_from([4, 5, 16]),
    budget=st.sampled_from([5, 33, 300]),
    prefix_cache=st.booleans(),
)
def test_a_mixed_crowd_answers_as_each_alone(
    base: tuple[Decoder, Path], tokenizer: Tokenizer, kinds: list[tuple[int, int]], kv_dtype: str, blocks: int,
    budget: int, prefix_cache: bool,
) -> None:  # fmt: skip
    asked = crowd(tokenizer, kinds)
    expected = []
    for request in asked:
        alone = make(base, tokenizer, max_batch=1, prefix_cache=False, kv_dtype=kv_dtype)
        expected += [told(c) for c in alone.generate([request])]
    engine = make(
        base, tokenizer, max_batch=4, token_budget=budget, max_tokens_total=64 * blocks, kv_dtype=kv_dtype,
        prefix_cache=prefix_cache,
    )  # fmt: skip
    for _ in range(2):
        assert [told(c) for c in engine.generate(asked)] == expected
        engine.check_integrity()
        assert engine.counters.blocks_used == 0


@low_bit_only
def test_the_mixture_is_preempted_and_still_the_same(
    base: tuple[Decoder, Path], tokenizer: Tokenizer
) -> None:
    asked = crowd(tokenizer, [(number, number) for number in range(12)], longer=70)
    wide = make(base, tokenizer, max_batch=24, max_tokens_total=8192, kv_dtype="int8")
    expected = [told(c) for c in wide.generate(asked)]
    narrow = make(base, tokenizer, max_batch=8, max_tokens_total=256, token_budget=50, kv_dtype="int8")
    assert [told(c) for c in narrow.generate(asked)] == expected
    assert narrow.counters.preemptions > 0 and wide.counters.preemptions == 0
    assert narrow.counters.spec_proposed > 0


def test_schema_answers_of_a_mixed_crowd_parse(base: tuple[Decoder, Path], tokenizer: Tokenizer) -> None:
    pytest.importorskip("llguidance")
    sampling = [Sampling(seed=seed, max_tokens=80, temperature=1.5) for seed in range(6)]
    asked = [
        Request([9] * (1 + 20 * i), s, grammar=FORMS[1], n=2, adapter="red" if i % 2 else None)
        for i, s in enumerate(sampling)
    ]
    engine = make(base, tokenizer, max_batch=5, max_tokens_total=320, token_budget=30)
    for completion in engine.generate(asked):
        if completion.finish_reason == "stop":
            found = json.loads(completion.text)
            assert found["who"] in SCHEMA["properties"]["who"]["enum"] and found["n"] <= 99  # type: ignore[index]
        else:
            assert completion.finish_reason == "length"


def test_a_prompt_in_pieces_can_be_aborted_at_each(base: tuple[Decoder, Path], tokenizer: Tokenizer) -> None:
    beside = Request([9] * 5, Sampling(temperature=0, max_tokens=40, ignore_end=True))
    expected = make(base, tokenizer).generate([beside])[0].ids
    engine = make(base, tokenizer, token_budget=16)
    for steps in range(8):
        watched, got = engine.submit(beside), list[int]()
        victim = engine.submit(
            Request([7] * 100, Sampling(max_tokens=9, seed=1, ignore_end=True), n=3, adapter="red")
        )
        for step in range(60):
            if step == steps:
                assert engine.abort(victim) is not None
                engine.check_integrity()
            got += [e.token_id for e in engine.step() if e.request_id == watched and e.token_id is not None]
        assert got == expected
        assert engine.idle and engine.counters.blocks_used == 0
    assert engine.adapters.unload("red") is None, "no request holds the adapter any more"


# ---------------------------------------------------------------- the edges of a request


def events_of(engine: Engine, request: Request) -> list[Event]:
    number, found = engine.submit(request), list[Event]()
    while not engine.idle:
        found += [e for e in engine.step() if e.request_id == number]
    return found


@pytest.mark.parametrize("n", [1, 3])
def test_stop_strings_of_several_bytes_in_several_answers(
    model: Decoder, tokenizer: Tokenizer, n: int
) -> None:
    """Each byte is a token here: a stop string's borders fall within characters."""
    free = Sampling(seed=3, max_tokens=100, ignore_end=True, temperature=1.3)
    engine = Engine(model, tokenizer, max_batch=4)
    whole = engine.generate([Request([9, 8], free, n=n)])
    for answer in whole:
        stop = answer.text[30:32]
        stopped = engine.generate([Request([9, 8], free.model_copy(update={"stop": (stop,)}), n=n)])
        for one, other in zip(stopped, whole, strict=True):
            assert one.text == other.text.split(stop)[0]
            assert one.ids == other.ids[: len(one.ids)]
        streamed = [""] * n
        for event in events_of(engine, Request([9, 8], free.model_copy(update={"stop": (stop,)}), n=n)):
            streamed[event.index] += event.text
            assert stop not in streamed[event.index]
        assert streamed == [c.text for c in stopped]


def test_one_token_and_a_prompt_at_the_limit(model: Decoder, tokenizer: Tokenizer) -> None:
    engine, context = Engine(model, tokenizer, max_batch=2), model.config.context_length
    for length in (1, 63, 64, 65, context - 1):
        for n in (1, 2):
            found = engine.generate([Request([9] * length, Sampling(max_tokens=1, ignore_end=True), n=n)])
            assert [len(c.ids) for c in found] == [1] * n
            assert {c.finish_reason for c in found} == {"length"}
    filled = engine.generate([Request([9] * (context - 1), Sampling(ignore_end=True))])
    assert len(filled[0].ids) == 1
    for length in (context, context + 1):
        with pytest.raises(RequestError, match="shorten the prompt"):
            engine.check(Request([9] * length, Sampling(max_tokens=1)))
    with pytest.raises(RequestError, match="ask for at most 2 tokens"):
        engine.check(Request([9] * (context - 2), Sampling(max_tokens=3)))


@pytest.mark.parametrize("speculative", ["off", "prompt"])
def test_a_banned_end_never_comes_and_a_wanted_one_comes_at_once(
    model: Decoder, tokenizer: Tokenizer, speculative: Any
) -> None:
    ends = {i for i in (tokenizer.eos_id, tokenizer.end_of_turn_id) if i is not None}
    engine = Engine(model, tokenizer, max_batch=2)
    for temperature in (0, 2.0):
        banned = Sampling(
            seed=1, max_tokens=120, temperature=temperature, logit_bias=dict.fromkeys(ends, -100.0)
        )
        (never,) = engine.generate([Request([9], banned, speculative=speculative)])
        assert not ends & set(never.ids) and len(never.ids) == 120
        wanted = banned.model_copy(update={"logit_bias": {min(ends): 100.0}})
        (once,) = engine.generate([Request([9], wanted, speculative=speculative)])
        assert (once.ids, once.text, once.finish_reason) == ([min(ends)], "", "stop")
        held = wanted.model_copy(update={"min_tokens": 7})
        (later,) = engine.generate([Request([9], held, speculative=speculative)])
        assert len(later.ids) == 8 and later.finish_reason == "stop"


def test_a_banned_end_ends_an_answer_whose_grammar_wants_it(model: Decoder, tokenizer: Tokenizer) -> None:
    pytest.importorskip("llguidance")
    bias = {i: -100.0 for i in (tokenizer.eos_id, tokenizer.end_of_turn_id) if i is not None}
    engine = Engine(model, tokenizer, max_batch=2)
    for text in ("[ab]{3}", "a|abc"):
        (found,) = engine.generate(
            [
                Request(
                    [9], Sampling(seed=1, max_tokens=30, logit_bias=bias), grammar=GrammarSpec("regex", text)
                )
            ]
        )
        assert found.finish_reason == "stop" and len(found.text) in (1, 3)
