"""The text side of answers: whole characters, stop strings, end tokens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.inference.engine import Engine
from arriero.inference.request import Completion, Event, Request, Sampling
from arriero.inference.stopping import StopMatcher
from arriero.tokenization.tokenizer import Tokenizer

PROMPT = [9, 9, 9]


def say(
    tokenizer: Tokenizer, scripted: type, text: str, end: list[int], **sampling: object
) -> tuple[list[Event], Completion]:
    """Events and completion of an engine whose model says ``text`` and then ``end``."""
    script = tokenizer.encode(text) + end
    engine = Engine(scripted(len(PROMPT), script, tokenizer.vocab_size), tokenizer)
    request = Request(PROMPT, Sampling.model_validate({"temperature": 0, **sampling}))
    return list(engine.stream(request)), engine.generate([request])[0]


def test_a_stream_is_the_whole_text_with_multi_byte_characters(tokenizer: Tokenizer, scripted: type) -> None:
    text = "Grüße, 世界! 🦙🏔️ Ω≈ç"
    events, whole = say(tokenizer, scripted, text, [tokenizer.end_of_turn_id])
    assert "".join(e.text for e in events) == whole.text == text
    assert "\ufffd" not in "".join(e.text for e in events)
    assert whole.finish_reason == "stop"
    assert whole.ids == [*tokenizer.encode(text), tokenizer.end_of_turn_id]
    assert tokenizer.decode(whole.ids) == text


@pytest.mark.parametrize("name", ["eos_id", "end_of_turn_id"])
def test_both_end_tokens_end_an_answer(tokenizer: Tokenizer, scripted: type, name: str) -> None:
    end = getattr(tokenizer, name)
    events, whole = say(tokenizer, scripted, "Sí", [end])
    assert (whole.text, whole.finish_reason, events[-1].token_id) == ("Sí", "stop", end)
    _, going_on = say(tokenizer, scripted, "Sí", [end], ignore_end=True, max_tokens=10)
    assert (going_on.text, going_on.finish_reason) == ("Sí", "length")


def test_a_character_cut_by_the_limit_is_marked_not_lost(tokenizer: Tokenizer, scripted: type) -> None:
    events, whole = say(tokenizer, scripted, "a世", [1], max_tokens=3)
    assert whole.text == "a\ufffd" == tokenizer.decode(whole.ids)
    assert [e.text for e in events] == ["a", "", "\ufffd"]
    assert whole.finish_reason == "length"


def test_stop_strings_across_tokens_are_never_shown(tokenizer: Tokenizer, scripted: type) -> None:
    events, whole = say(tokenizer, scripted, "one two\n\nUser: three", [1], stop=["\n\nUser:", "zzz"])
    assert whole.text == "one two"
    assert "".join(e.text for e in events) == "one two"
    assert whole.finish_reason == "stop"
    assert whole.ids == tokenizer.encode("one two\n\nUser:")


def test_text_held_for_a_stop_string_comes_out_at_the_end(tokenizer: Tokenizer, scripted: type) -> None:
    for end, limit in (([1], 50), ([200], 8)):
        _, whole = say(tokenizer, scripted, "done\n\nUs", end, stop=["\n\nUser:"], max_tokens=limit)
        assert whole.text == "done\n\nUs"


def test_a_stop_string_of_multi_byte_characters(tokenizer: Tokenizer, scripted: type) -> None:
    _, whole = say(tokenizer, scripted, "é世界é界", [1], stop=["世界é"])
    assert whole.text == "é"


letters = st.text("ab€", max_size=24)


@settings(deadline=None)
@given(
    letters,
    st.lists(st.text("ab€", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 24), max_size=8),
)
def test_stopping_does_not_depend_on_how_the_text_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    def run(pieces: list[str]) -> tuple[str, bool]:
        matcher, shown = StopMatcher(stops), ""
        for piece in pieces:
            out, stopped = matcher.push(piece)
            shown += out
            if stopped:
                return shown, True
        return shown + matcher.flush(), False

    bounds = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(bounds)]
    shown, stopped = run(pieces)
    assert (shown, stopped) == run(list(text)) == run([text])
    ends = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
    assert (shown, stopped) == ((text[: min(ends)[1]], True) if ends else (text, False))
