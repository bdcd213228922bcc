"""Grammars in the engine: requests wait for theirs, and others pass them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.inference.engine import Engine
from arriero.inference.grammar.spec import GrammarSpec
from arriero.inference.request import Event, Request, RequestError, Sampling
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.tokenization.tokenizer import Tokenizer

ITEMS = {"type": "array", "items": {"enum": ["a", "é", 10]}, "minItems": 2, "maxItems": 4}
PAIR = {
    "type": "object",
    "properties": {"x": {"type": "boolean"}},
    "required": ["x"],
    "additionalProperties": False,
}
SPECS = [
    GrammarSpec("regex", "[a-f]{5,9}z"),
    *(GrammarSpec("json_schema", json.dumps(s)) for s in (ITEMS, PAIR)),
]


@pytest.fixture(scope="module")
def model(byte_tokenizer: Tokenizer) -> Decoder:
    shape = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 32, "context_length": 256, "init_std": 0.4}
    model = Decoder(DecoderConfig.model_validate({"vocab_size": byte_tokenizer.vocab_size, **shape}))
    model.init_weights(0)
    return model.eval()


@pytest.fixture
def engine(model: Decoder, byte_tokenizer: Tokenizer) -> Iterator[Engine]:
    engine = Engine(model, byte_tokenizer, max_batch=3)
    yield engine
    engine.check_integrity()


def run(engine: Engine) -> list[Event]:
    events = []
    while not engine.idle:
        events += engine.step()
    return events


def requests() -> list[Request]:
    return [
        Request([7 + seed], Sampling(max_tokens=200, seed=seed), grammar=spec)
        for seed in range(3)
        for spec in [*SPECS, None]
    ]


def test_answers_obey_and_are_the_same_in_company(engine: Engine) -> None:
    together = engine.generate(requests())
    for request, answer in zip(requests(), together, strict=True):
        alone = engine.generate([request])[0]
        assert (alone.text, alone.finish_reason) == (answer.text, answer.finish_reason)
        if request.grammar is not None:
            assert answer.finish_reason == "stop"
        if request.grammar == SPECS[0]:
            assert answer.text.endswith("z") and 6 <= len(answer.text) <= 10
        elif request.grammar == SPECS[1]:
            assert set(json.loads(answer.text)) <= {"a", "é", 10}
        elif request.grammar == SPECS[2]:
            assert json.loads(answer.text)["x"] in (True, False)


def test_several_answers_to_one_request(engine: Engine) -> None:
    request = Request([9], Sampling(max_tokens=200, seed=1), n=3, grammar=SPECS[1])
    texts = [answer.text for answer in engine.generate([request])]
    assert len(texts) == 3 and all(json.loads(text) for text in texts)


def test_an_answer_that_is_cut_says_length(engine: Engine) -> None:
    answer = engine.generate([Request([9], Sampling(max_tokens=4, seed=1), grammar=SPECS[2])])[0]
    assert answer.finish_reason == "length" and len(answer.ids) == 4


def test_guesses_change_nothing(engine: Engine) -> None:
    sampling = Sampling(max_tokens=200, temperature=0)
    spec = GrammarSpec("json_schema", json.dumps({**ITEMS, "minItems": 12, "maxItems": 12}))
    plain, guessed = (
        engine.generate([Request([9], sampling, grammar=spec, speculative=how)])[0]
        for how in ("off", "prompt")
    )
    assert plain.text == guessed.text and json.loads(plain.text)


def test_a_request_waits_for_its_grammar_and_others_pass_it(engine: Engine) -> None:
    gate, compiled = threading.Event(), engine.grammars._compiled

    def slow(*args: Any) -> Any:
        gate.wait(10)
        return compiled(*args)

    engine.grammars._compiled = slow  # type: ignore[method-assign]
    waiting = engine.submit(Request([9], Sampling(max_tokens=50), grammar=SPECS[0]))
    gone = engine.submit(Request([9], Sampling(max_tokens=50), grammar=SPECS[1]))
    engine.submit(Request([9], Sampling(max_tokens=3, ignore_end=True)))
    passed: list[Event] = []
    while not any(event.finish_reason for event in passed):
        passed += engine.step()
    assert {event.request_id for event in passed}.isdisjoint({waiting, gone})
    assert engine.step() == []
    engine.abort(gone)
    gate.set()
    events = run(engine)
    assert {event.request_id for event in events} == {waiting}
    assert "".join(event.text for event in events).endswith("z")


def test_a_wrong_grammar_is_an_error_of_its_request_alone(engine: Engine) -> None:
    wrong = Request([9], Sampling(max_tokens=5), grammar=GrammarSpec("json_schema", '{"enum": []}'), n=2)
    right = Request([9], Sampling(max_tokens=100, seed=0), grammar=SPECS[2])
    first, second = engine.submit(wrong), engine.submit(right)
    events = run(engine)
    failed = [event for event in events if event.request_id == first]
    assert [event.finish_reason for event in failed] == ["error", "error"]
    assert "empty" in (failed[0].error or "")
    assert json.loads("".join(event.text for event in events if event.request_id == second))
    with pytest.raises(RequestError, match="empty"):  # known by now
        engine.submit(wrong)
    with pytest.raises(ArrieroError, match="look-around"):
        engine.generate([Request([9], Sampling(max_tokens=5), grammar=GrammarSpec("regex", "a(?=b)"))])
    assert engine.idle
