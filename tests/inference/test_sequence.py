"""One answer alone, driven by hand: what it takes, what it tells."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.inference.request import Event, Request, RequestError, Sampling
from arriero.inference.sequence import Sequence, check_prompt, check_sampling
from arriero.inference.speculative.proposal import Proposal
from arriero.tokenization.tokenizer import Tokenizer

END = frozenset({1})
PROMPT = [9, 9, 30]
Step = Callable[[list[int]], np.ndarray]


def random_rows(size: int, seed: int = 0, spread: float = 2.0) -> Step:
    """Logits that depend on all tokens before."""

    def row(ids: list[int]) -> np.ndarray:
        rng = np.random.default_rng([seed, *ids])
        return (rng.standard_normal(size) * spread).astype(np.float32)

    return row


def make(tokenizer: Tokenizer, index: int = 0, limit: int = 24, **sampling: object) -> Sequence:
    request = Request(PROMPT, Sampling.model_validate(sampling), n=index + 1)
    return Sequence(1, request, tokenizer, END, limit, index=index)


def answer(sequence: Sequence, rows: Step) -> list[Event]:
    events = [sequence.accept(rows(sequence.ids))]
    while events[-1].finish_reason is None:
        events.append(sequence.accept(rows(sequence.ids)))
    return events


def saying(ids: list[int], size: int = 261) -> Step:
    """Logits of a model that says ``ids`` after the prompt."""

    def row(before: list[int]) -> np.ndarray:
        logits = np.zeros(size, np.float32)
        logits[ids[len(before) - len(PROMPT)]] = 50
        return logits

    return row


# ---------------------------------------------------------------- streams of draws


def test_each_answer_of_a_request_has_its_own_stream(tokenizer: Tokenizer) -> None:
    rows = random_rows(261)
    got = {i: [e.token_id for e in answer(make(tokenizer, i, seed=4), rows)] for i in range(6)}
    assert len({tuple(ids) for ids in got.values()}) == 6
    assert got[3] == [e.token_id for e in answer(make(tokenizer, 3, seed=4), rows)]
    assert all(e.index == 3 for e in answer(make(tokenizer, 3, seed=4), rows))


def test_answers_without_a_seed_differ(tokenizer: Tokenizer) -> None:
    rows = random_rows(261)
    assert len({tuple(e.token_id for e in answer(make(tokenizer), rows)) for _ in range(4)}) > 1


def test_presence_penalty_prevents_a_loop(tokenizer: Tokenizer) -> None:
    def rows(ids: list[int]) -> np.ndarray:
        return np.array([0, 0, 0, 3, 2.9, 2.8], np.float32)

    sequence = make(tokenizer, limit=3, temperature=0, presence_penalty=1)
    assert [e.token_id for e in answer(sequence, rows)] == [3, 4, 5]


# ---------------------------------------------------------------- what ends an answer


def test_stop_tokens_end_an_answer_and_are_not_shown(tokenizer: Tokenizer) -> None:
    said = tokenizer.encode("abcd")
    events = answer(make(tokenizer, temperature=0, stop_token_ids=[said[2]], ignore_end=True), saying(said))
    assert "".join(e.text for e in events) == "ab"
    assert [e.token_id for e in events] == said[:3]
    assert events[-1].finish_reason == "stop"


def test_nothing_ends_an_answer_before_min_tokens(tokenizer: Tokenizer) -> None:
    rows = random_rows(261)
    for seed in range(40):
        biased = {"seed": seed, "logit_bias": {1: 12.0, 70: 12.0}, "stop_token_ids": [70]}
        events = answer(make(tokenizer, min_tokens=5, **biased), rows)
        assert len(events) >= 5
        assert not {1, 70} & {e.token_id for e in events[:5]}
        assert events[-1].finish_reason == "stop"


@pytest.mark.parametrize(("least", "shown"), [(0, "x"), (3, "x"), (4, "xaby"), (6, "xaby"), (7, "xabyabx")])
def test_stop_strings_count_from_min_tokens_on(tokenizer: Tokenizer, least: int, shown: str) -> None:
    """``ab`` is complete at tokens 3, 6 and 9."""
    sequence = make(tokenizer, limit=9, temperature=0, stop=["ab"], min_tokens=least)
    events = answer(sequence, saying(tokenizer.encode("xabyabxab")))
    assert "".join(e.text for e in events) == shown
    assert events[-1].finish_reason == "stop"


def test_a_short_stop_within_a_held_long_one_still_counts_from_min_tokens_on(tokenizer: Tokenizer) -> None:
    said = tokenizer.encode("xabz")
    sequence = make(tokenizer, limit=4, temperature=0, stop=["ab", "xaby"], min_tokens=4)
    events = answer(sequence, saying(said))
    assert ("".join(e.text for e in events), events[-1].finish_reason) == ("xabz", "length")


# ---------------------------------------------------------------- what goes wrong


def test_a_row_that_is_no_numbers_ends_its_answer_only(tokenizer: Tokenizer) -> None:
    for wrong in (math.nan, math.inf):
        for temperature in (0.0, 1.0):
            sequence = make(tokenizer, temperature=temperature)
            row = np.zeros(261, np.float32)
            row[200] = wrong
            event = sequence.accept(row)
            assert (event.finish_reason, event.token_id) == ("error", None)
            assert event.error is not None
            assert "not a number" in event.error
            assert sequence.ids == PROMPT


def test_what_was_held_back_is_shown_with_an_error(tokenizer: Tokenizer) -> None:
    sequence = make(tokenizer, temperature=0, stop=["abc"])
    for token in tokenizer.encode("ab"):
        row = np.zeros(261, np.float32)
        row[token] = 9
        assert sequence.accept(row).text == ""
    assert sequence.accept(np.full(261, math.nan, np.float32)).text == "ab"


def test_ids_that_are_never_generated_are_refused() -> None:
    with pytest.raises(
        RequestError, match="logit_bias names token id 300, the tokenizer's ids go from 0 to 260"
    ):
        check_sampling(Sampling(logit_bias={4: 1.0, 300: 2.0}), 261)
    with pytest.raises(RequestError, match="stop_token_ids names token id 261"):
        check_sampling(Sampling(stop_token_ids=(261,)), 261)
    with pytest.raises(RequestError, match="token id -3"):
        check_prompt([4, -3], 261)
    for wrong in ({"n": 0}, {"n": 3, "best_of": 2}, {"n": 1000}):
        with pytest.raises(RequestError, match="must be from"):
            Request(PROMPT, **wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------- log-probabilities


def test_log_probabilities_are_the_models_own(tokenizer: Tokenizer) -> None:
    rows = random_rows(261)
    shaped = {"temperature": 0.5, "top_k": 5, "logit_bias": {44: 6.0}, "presence_penalty": 1.0}
    sequence = make(tokenizer, limit=6, seed=1, logprobs=3, ignore_end=True, **shaped)
    for step, event in enumerate(answer(sequence, rows)):
        row = rows(sequence.ids[: len(PROMPT) + step]).astype(np.float64)
        expected = row - np.log(np.exp(row).sum())
        assert event.logprob == pytest.approx(expected[event.token_id], abs=1e-5)
        order = np.argsort(-expected)[:3]
        assert [t.token_id for t in event.top] == order.tolist()
        assert [t.logprob for t in event.top] == pytest.approx(expected[order].tolist(), abs=1e-5)


@pytest.mark.parametrize("cuts", [[3], [1, 2], [1, 1, 1], [2, 1]])
def test_the_prompts_log_probabilities_come_with_the_first_event(
    tokenizer: Tokenizer, cuts: list[int]
) -> None:
    rows = random_rows(261)
    sequence = make(tokenizer, prompt_logprobs=2, seed=0, limit=2, ignore_end=True)
    sequence.cached_tokens = 2
    first = 0
    for count in cuts:
        assert sequence.wants_prompt_logits == (first < 2)  # the last token's row says nothing of the prompt
        sequence.note_prompt(np.stack([rows(PROMPT[: i + 1]) for i in range(first, first + count)]), first)
        first += count
    assert not sequence.wants_prompt_logits
    events = answer(sequence, rows)
    told = events[0].prompt_logprobs
    assert [t.token_id for t in told] == PROMPT
    assert told[0].logprob is None
    for place in (1, 2):
        row = rows(PROMPT[:place]).astype(np.float64)
        expected = row - np.log(np.exp(row).sum())
        assert told[place].logprob == pytest.approx(expected[PROMPT[place]], abs=1e-5)
        assert [t.token_id for t in told[place].top] == np.argsort(-expected)[:2].tolist()
    assert (events[0].cached_tokens, events[1].cached_tokens, events[1].prompt_logprobs) == (2, 0, ())


def test_mean_log_probability_of_scored_answers(tokenizer: Tokenizer) -> None:
    rows = random_rows(261)
    request = Request(PROMPT, Sampling(seed=3, logprobs=0, ignore_end=True), n=1, best_of=2)
    sequence = Sequence(1, request, tokenizer, END, 7)
    events = answer(sequence, rows)
    assert sequence.mean_logprob == pytest.approx(np.mean([e.logprob for e in events]))
    assert Request(PROMPT, n=2, best_of=5).answers == 5


# ---------------------------------------------------------------- text, and guesses

texts = st.text("ab é世🦙\n", max_size=12)


@settings(max_examples=120, deadline=None)
@given(
    texts,
    st.lists(st.text("ab é世", min_size=1, max_size=3), max_size=2),
    st.integers(0, 6),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_the_text_does_not_depend_on_how_many_tokens_a_step_takes(
    tokenizer: Tokenizer, text: str, stops: list[str], least: int, most: int, random: object
) -> None:
    """Multi-byte characters and stop strings across tokens: streamed = whole, verified guesses = one by one."""
    said = [*tokenizer.encode(text), 1]
    rows = saying(said)

    def run(guessing: bool) -> tuple[str, list[int], str | None]:
        sequence = make(
            tokenizer, limit=len(said), temperature=0, stop=stops, min_tokens=min(least, len(said))
        )
        shown, reason = "", None
        while reason is None:
            done = sequence.generated
            guess = said[done : done + random.randint(0, most)][: sequence.room] if guessing else []  # type: ignore[attr-defined]
            if guess and random.random() < 0.3:  # type: ignore[attr-defined]
                guess[-1] = 100
            sequence.proposal = Proposal(guess)
            events = sequence.verify(
                [rows(sequence.ids + said[done : done + i]) for i in range(len(guess) + 1)]
            )
            shown += "".join(e.text for e in events)
            reason = events[-1].finish_reason
        return shown, sequence.ids, reason

    assert run(guessing=True) == run(guessing=False)
    shown, ids, reason = run(guessing=False)
    if not stops and not least:
        assert shown == text
        assert tokenizer.decode(ids[len(PROMPT) :]) == text
    assert reason in ("stop", "length")


def test_what_applies_can_be_told() -> None:
    assert Sampling().describe() == (
        "temperature 1, top_k 0, top_p 1, min_p 0, repetition_penalty 1, presence_penalty 0, frequency_penalty 0, "
        "seed drawn for each request; generation_config.json is not read"
    )
    told = Sampling(temperature=0.7, seed=5, logit_bias={1: 2.0}).describe()
    assert "temperature 0.7 (set), top_k 0," in told
    assert "seed 5 (set), logit_bias on 1 tokens (set); " in told
