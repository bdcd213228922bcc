"""Who guesses, in an engine: prompt lookup, a draft model, a grammar."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.inference.engine import Engine
from arriero.inference.grammar.spec import GrammarSpec
from arriero.inference.request import Completion, Request, RequestError, Sampling
from arriero.inference.sampler import distribution
from arriero.inference.shaping import Shaper
from arriero.inference.speculative.draft import check_same_tokens
from arriero.inference.speculative.pays import Pays
from arriero.inference.speculative.proposers import CHAIN, LONGEST, SHORTEST, PromptLookup
from arriero.models.checkpoint import save_model
from arriero.models.decoder import Decoder
from arriero.tokenization.tokenizer import Tokenizer

# ---------------------------------------------------------------- prompt lookup


def agreement(ids: list[int], place: int) -> int:
    """How many tokens up to ``place`` agree with those at the end."""
    count = 0
    while count <= place and ids[place - count] == ids[-1 - count]:
        count += 1
    return min(count, LONGEST)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=CHAIN), st.integers(1, 9), st.integers(0, 12))
def test_lookup_goes_on_as_after_the_longest_agreement(ids: list[int], count: int, start: int) -> None:
    sequence = ids[:start]
    lookup = PromptLookup(sequence)
    lookup.propose(count)
    for token in ids[start:]:
        sequence.append(token)
        found = lookup.propose(count)
        lengths = [agreement(sequence, place) for place in range(len(sequence) - 1)]
        longest = max(lengths, default=0)
        if longest < SHORTEST:
            assert len(found) == 0
            continue
        place = max(i for i, n in enumerate(lengths) if n == longest)
        text = list(sequence)
        for i in range(count):  # it may go on over its own guesses
            text.append(text[place + 1 + i])
        assert (found.tokens, found.strength) == (text[len(sequence) :], longest)


def test_lookup_reads_a_long_text_once() -> None:
    ids = np.random.default_rng(0).integers(0, 50, 20_000).tolist()
    lookup = PromptLookup(ids)
    ids += ids[100:130]
    assert lookup.propose(4).tokens == ids[130:134]
    assert lookup.propose(4).strength == LONGEST
    constant = [7] * 20_000
    assert PromptLookup(constant).propose(6).tokens == [7] * 6


# ---------------------------------------------------------------- engines


class Always(Pays):
    """Guesses as far as it can."""

    def wanted(self, answers: int) -> bool:
        return True

    def plan(self, guesses: list[tuple[float, int, object]]) -> list[int]:
        return [length for _, length, _ in guesses]


def make(model: Decoder, tokenizer: Tokenizer, **options: object) -> Engine:
    engine = Engine(model, tokenizer, **options)  # type: ignore[arg-type]
    engine._speculator.pays = Always()
    return engine


def requests(way: str, **changes: object) -> list[Request]:
    rng = np.random.default_rng(5)
    sampling = {"temperature": 0, "max_tokens": 30, "ignore_end": True, "logprobs": 2} | changes
    made = []
    for i in range(7):
        piece = rng.integers(5, 261, 6).tolist()
        seeded = sampling | ({"seed": i} if sampling["temperature"] else {})
        prompt = piece * 3 + rng.integers(5, 261, rng.integers(1, 50)).tolist() + piece[:4]
        made.append(Request(prompt, Sampling.model_validate(seeded), speculative=way))  # type: ignore[arg-type]
    return made


KINDS: dict[str, dict[str, object]] = {
    "greedy": {},
    "sampled": {"temperature": 0.4, "top_p": 0.95},
    "penalties": {"temperature": 0.3, "presence_penalty": 0.3, "repetition_penalty": 0.8},
    "stops": {"temperature": 0.5, "ignore_end": False, "stop": ("a", "é")},
}


def same(first: list[Completion], second: list[Completion]) -> None:
    for a, b in zip(first, second, strict=True):
        assert (a.ids, a.text, a.finish_reason) == (b.ids, b.text, b.finish_reason)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["prompt", "draft", "auto"])
def test_answers_are_those_of_plain_steps(
    tokenizer: Tokenizer, tiny: Callable[..., Decoder], kind: str, way: str
) -> None:
    model = tiny(1)
    draft = None if way == "prompt" else tiny(1, n_layers=1)
    plain = Engine(model, tokenizer, max_batch=3, prefix_cache=False).generate(requests("off", **KINDS[kind]))
    engine = make(model, tokenizer, max_batch=3, draft=draft, max_tokens_total=640)
    same(engine.generate(requests(way, **KINDS[kind])), plain)
    counters = engine.counters
    assert counters.spec_proposed > 0
    assert counters.spec_accepted <= counters.spec_proposed
    engine.check_integrity()
    if engine._speculator.draft is not None:
        assert engine._speculator.draft.pool.used == 0


def test_a_draft_that_is_the_model_itself_is_always_right(model: Decoder, tokenizer: Tokenizer) -> None:
    for sampling in ({}, {"temperature": 0.7, "seed": None}):
        engine = make(model, tokenizer, draft=model)
        asked = [
            Request(r.prompt, r.sampling.model_copy(update={"seed": None, **sampling}), speculative="draft")
            for r in requests("draft")
        ]
        engine.generate(asked)
        counters = engine.counters
        assert (
            counters.spec_accepted >= 0.97 * counters.spec_proposed
        )  # what the limit cut is not counted as right
        assert counters.steps < 30


@pytest.mark.parametrize("way", ["prompt", "draft"])
def test_unseeded_answers_of_an_engine_follow_the_exact_distribution(
    tokenizer: Tokenizer, tiny: Callable[..., Decoder], way: str
) -> None:
    """Against the probabilities of all answers of three tokens."""
    model, length, count = tiny(4, init_std=0.2), 3, 800
    only = {50: 60.0, 60: 60.0, 70: 60.0}  # nothing else comes
    sampling = Sampling(temperature=0.9, top_k=3, max_tokens=length, ignore_end=True, logit_bias=only)
    prompt, shaper = [50, 50, 60, 60, 70, 70, 50, 70, 60, 50], Shaper(sampling, [], frozenset())
    chances = {(): 1.0}
    for _ in range(length):
        with torch.inference_mode():
            rows = model(torch.tensor([[*prompt, *ids] for ids in chances]))[:, -1].numpy()
        found = [
            (ids, p, distribution(shaper.shape(row), sampling))
            for (ids, p), row in zip(chances.items(), rows, strict=True)
        ]
        chances = {(*ids, int(t)): p * d.probability(int(t)) for ids, p, d in found for t in d.ids}
    engine = make(model, tokenizer, draft=tiny(4, init_std=0.2, n_layers=1) if way == "draft" else None)
    told = engine.generate([Request(prompt, sampling, speculative=way)] * count)  # type: ignore[arg-type]
    times = Counter(tuple(c.ids) for c in told)
    assert set(times) <= set(chances)
    assert 0 < engine.counters.spec_accepted < engine.counters.spec_proposed
    assert len(chances) == 27
    rare = {ids for ids, p in chances.items() if p * count < 5}
    cells = [(times[ids], p * count) for ids, p in chances.items() if ids not in rare]
    cells.append((sum(times[ids] for ids in rare), sum(chances[ids] for ids in rare) * count + 1))
    assert sum((o - e) ** 2 / e for o, e in cells) < 80  # passed by chance once in a million with 27 cells


def test_guesses_survive_preemption(tokenizer: Tokenizer, tiny: Callable[..., Decoder]) -> None:
    model = tiny(2)
    asked = [
        Request([9 + i, 9] * 20, Sampling(temperature=0, max_tokens=60, ignore_end=True)) for i in range(5)
    ]
    plain = Engine(model, tokenizer).generate(asked)
    engine = make(model, tokenizer, max_tokens_total=384, draft=tiny(2, n_layers=1))
    same(engine.generate(asked), plain)
    assert engine.counters.preemptions > 0
    engine.check_integrity()


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_what_a_grammar_forces_is_guessed_right(
    model: Decoder, tokenizer: Tokenizer, temperature: float
) -> None:
    pytest.importorskip("llguidance")
    grammar = GrammarSpec("regex", r"(name|names): [a-c]{3}, the rest of it follows here [0-9]{2}\.")
    asked = [
        Request(r.prompt, Sampling(temperature=temperature, seed=i, max_tokens=60), grammar=grammar)
        for i, r in enumerate(requests("off"))
    ]
    plain = Engine(model, tokenizer).generate([replace(r, speculative="off") for r in asked])
    engine = make(model, tokenizer)
    engine._guesses_unasked = True
    same(engine.generate(asked), plain)
    assert all(re.fullmatch(grammar.text, c.text) for c in plain)
    assert engine.counters.spec_accepted > 0.5 * engine.counters.spec_proposed > 0
    assert engine.counters.steps < 0.7 * engine.counters.generated_tokens / len(asked)


def test_a_request_can_switch_guessing_off(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = make(model, tokenizer, draft=model)
    engine.generate(requests("off"))
    assert engine.counters.spec_proposed == 0


def test_a_draft_with_other_tokens_is_refused(
    model: Decoder, tokenizer: Tokenizer, tiny: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArrieroError, match=r"draft model has 200 ids, the tokenizer 261"):
        Engine(model, tokenizer, draft=tiny(0, vocab_size=200))
    with pytest.raises(RequestError, match="the engine has no draft model"):
        Engine(model, tokenizer).submit(Request([9], speculative="draft"))
    check_same_tokens(tokenizer, tokenizer)

    class Other:
        vocab_size = 261
        special_ids = tokenizer.special_ids

        def token_bytes(self, i: int) -> bytes:
            return b"!" if i == 17 else tokenizer.token_bytes(i)

    with pytest.raises(
        ArrieroError, match=r"token id 17 is .* a draft model must share the model's tokenizer"
    ):
        check_same_tokens(tokenizer, Other())  # type: ignore[arg-type]
    monkeypatch.setattr(Other, "vocab_size", 260)
    with pytest.raises(ArrieroError, match="260 ids, the model's 261"):
        check_same_tokens(tokenizer, Other())  # type: ignore[arg-type]


def test_a_draft_is_loaded_from_its_folder(
    model: Decoder, tokenizer: Tokenizer, tiny: Callable[..., Decoder], tmp_path: Path
) -> None:
    for name, made in (("model", model), ("draft", tiny(0, n_layers=1))):
        (tmp_path / name).mkdir()
        save_model(made, tmp_path / name)
        tokenizer.save(tmp_path / name)
    engine = Engine.load(tmp_path / "model", draft=tmp_path / "draft")
    engine._speculator.pays = Always()
    same(engine.generate(requests("draft")), Engine(model, tokenizer).generate(requests("off")))
    assert engine.counters.spec_proposed > 0


def test_a_draft_pool_that_is_full_gives_no_guess(tokenizer: Tokenizer, tiny: Callable[..., Decoder]) -> None:
    model = tiny(1)
    engine = make(model, tokenizer, draft=tiny(1, n_layers=1))
    draft = engine._speculator.draft
    assert draft is not None
    held = draft.pool.allocate(draft.pool.free - 3)
    assert held is not None
    same(engine.generate(requests("draft")), Engine(model, tokenizer).generate(requests("off")))
    assert draft.pool.used == len(held)
    assert engine.counters.spec_proposed > 0
