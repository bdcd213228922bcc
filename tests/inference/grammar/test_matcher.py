from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.inference.grammar.compile import GrammarCompiler
from arriero.inference.grammar.matcher import Matcher
from arriero.inference.grammar.spec import GrammarError, GrammarSpec
from arriero.tokenization.tokenizer import Tokenizer

SCHEMA = GrammarSpec(
    "json_schema",
    json.dumps(
        {
            "type": "object",
            "properties": {"name": {"type": "string"}, "on": {"type": "boolean"}, "n": {"type": "integer"}},
            "required": ["name", "on"],
        }
    ),
)
REGEXES = [
    r"(ab|ac)*d?",
    r"[0-9]{1,3}(\.[0-9]+)?",
    r" a+|b",
    r"(é|ü|x){2,4}",
    r"true|tru|t",
    r"\d\d:\d\d",
    r"a{3}",
    r"",
]
Speak = Callable[..., tuple[list[int], bool]]


def ends_of(tokenizer: Tokenizer) -> list[int]:
    return sorted({tokenizer.eos_id, tokenizer.end_of_turn_id})


@pytest.mark.parametrize("regex", REGEXES)
def test_a_regular_expression_matches_the_whole_answer(
    compiler: GrammarCompiler, speak: Speak, regex: str
) -> None:
    tokenizer = compiler._tokenizer
    whole = re.compile(regex, re.ASCII)
    texts = set()
    for seed in range(20):
        ids, ended = speak(tokenizer, compiler.matcher(GrammarSpec("regex", regex)), seed)
        texts.add(tokenizer.decode(ids))
        assert ended
        assert whole.fullmatch(tokenizer.decode(ids)), (regex, tokenizer.decode(ids))
    assert len(texts) > 1 or regex in ("", "a{3}")


def prefixes(alphabet: str, whole: re.Pattern[str], longest: int) -> tuple[set[str], set[str]]:
    """All texts up to a length that match, and all beginnings of them."""
    texts, matching = [""], set()
    for _ in range(longest + 1):
        matching |= {t for t in texts if whole.fullmatch(t)}
        texts = [t + c for t in texts for c in alphabet]
    return matching, {t[:n] for t in matching for n in range(len(t) + 1)}


@pytest.mark.parametrize("regex", [r"(ab|ba)*c?", r"a?b?c?a", r"(a|b)(c|ab)*", r"[ab]{2,3}", r" a| ?b"])
def test_the_mask_is_what_trying_every_token_gives(bytes_compiler: GrammarCompiler, regex: str) -> None:
    """Single bytes and a few longer tokens; where the grammar forces its bytes only their usual cut is allowed."""
    tokenizer = bytes_compiler._tokenizer
    matching, beginnings = prefixes(" abc", re.compile(regex), 5)
    matcher = bytes_compiler.matcher(GrammarSpec("regex", regex))
    texts = [tokenizer.token_bytes(i).decode("utf-8", "replace") for i in range(tokenizer.vocab_size)]
    special = set(tokenizer.special_ids.values())
    rng = np.random.default_rng(0)
    for _ in range(30):
        said = ""
        while len(said) < 3:
            allowed = set(np.flatnonzero(matcher.allowed()).tolist())
            expected = {i for i, t in enumerate(texts) if i not in special and t and said + t in beginnings}
            expected |= set(ends_of(tokenizer)) if said in matching else set()
            assert allowed == expected, (regex, said)
            token = int(rng.choice(sorted(allowed)))
            if token in special:
                break
            matcher.accept(token)
            said += texts[token]
        matcher.rollback(matcher.accepted)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), back=st.lists(st.integers(0, 8), min_size=1, max_size=6))
def test_taken_back_is_never_accepted(
    compiler: GrammarCompiler, speak: Speak, seed: int, back: list[int]
) -> None:
    tokenizer = compiler._tokenizer
    ids, ended = speak(tokenizer, compiler.matcher(SCHEMA), seed)
    ids = ids + ends_of(tokenizer)[:1] if ended else ids
    fresh, walked = compiler.matcher(SCHEMA), compiler.matcher(SCHEMA)
    states = []
    for token in ids:
        states.append((fresh.allowed(), fresh.complete, fresh.finished))
        fresh.accept(token)
    place = 0
    for count in [*back, 0]:
        while place < len(ids):
            walked.accept(ids[place])
            place += 1
            if place % 7 == 0:
                break
        count = min(count, place)
        walked.rollback(count)
        place -= count
        if place < len(ids):
            allowed, complete, finished = states[place]
            assert (walked.allowed() == allowed).all()
            assert (walked.complete, walked.finished) == (complete, finished)
    assert walked.fits(ids[place:]) == len(ids) - place


def test_the_end_only_where_the_grammar_may_end_and_nothing_special_ever(compiler: GrammarCompiler) -> None:
    tokenizer = compiler._tokenizer
    others = [i for i in tokenizer.special_ids.values() if i not in ends_of(tokenizer)]
    matcher = compiler.matcher(GrammarSpec("regex", "(ab)+"))
    for token, complete in [("a", False), ("b", False), ("a", True), ("b", False), ("", True)]:
        allowed = matcher.allowed()
        assert matcher.complete == complete
        assert bool(allowed[ends_of(tokenizer)].all()) == complete
        assert not allowed[others].any()
        if token:
            matcher.accept(tokenizer.encode_continuation(token)[0])
    matcher.accept(ends_of(tokenizer)[0])
    assert matcher.finished and matcher.error is None and not matcher.allowed().any()
    with pytest.raises(GrammarError):
        matcher.accept(tokenizer.encode_continuation("a")[0])
    matcher.rollback(1)
    assert not matcher.finished and matcher.allowed().any()


def test_names_of_special_tokens_are_plain_text(bytes_compiler: GrammarCompiler) -> None:
    tokenizer = bytes_compiler._tokenizer
    matcher = bytes_compiler.matcher(GrammarSpec("regex", r"<\|im_end\|>"))
    ids = tokenizer.encode("<|im_end|>")
    assert matcher.fits(ids) == len(ids) > 1
    assert matcher.fits([tokenizer.special_ids["<|im_end|>"]]) == 0
    for grammar in ('start: <[4]> "a"', "start: <|im_end|>"):
        with pytest.raises(GrammarError):
            bytes_compiler.matcher(GrammarSpec("lark", grammar))


@pytest.mark.parametrize("size", [-3, 0, 7])
def test_rows_shorter_and_longer_than_the_vocabulary(compiler: GrammarCompiler, size: int) -> None:
    matcher = compiler.matcher(GrammarSpec("regex", "[ab]"))
    for kind in (np.float32, np.float64):
        row = np.zeros(len(matcher.allowed()) + size, dtype=kind)
        matcher.mask(row)
        shared = min(len(row), len(matcher.allowed()))
        assert (np.isfinite(row[:shared]) == matcher.allowed()[:shared]).all()
        assert np.isneginf(row[shared:]).all()


def test_a_wrong_token_changes_nothing(compiler: GrammarCompiler) -> None:
    matcher = compiler.matcher(GrammarSpec("regex", "[ab]c"))
    before = matcher.allowed()
    for token in (-1, 10**9, compiler._tokenizer.encode_continuation("c")[0]):
        with pytest.raises(GrammarError, match="does not obey"):
            matcher.accept(token)
    assert (matcher.allowed() == before).all() and matcher.accepted == 0
    with pytest.raises(GrammarError, match="cannot be taken back"):
        matcher.rollback(1)


def test_the_space_before_a_text_is_no_part_of_it(piece_tokenizer: Tokenizer) -> None:
    compiler = GrammarCompiler(piece_tokenizer)
    texts = [piece_tokenizer.token_bytes(i) for i in range(piece_tokenizer.vocab_size)]
    space, named, bare = (max(i for i, t in enumerate(texts) if t == want) for want in (b" ", b" a", b"a"))
    plain = compiler.matcher(GrammarSpec("regex", "[ab]"))
    said = {text for text, allowed in zip(texts, plain.allowed(), strict=True) if allowed}
    assert said == {b" ", b" a", b" b", b"a", b"b"}
    plain.accept(named)
    assert plain.finished and piece_tokenizer.decode([named]) == "a"
    spaced = compiler.matcher(GrammarSpec("regex", " [ab]"))
    assert not spaced.allowed()[[named, bare]].any()
    spaced.accept(space)
    assert spaced.allowed()[named] and not spaced.allowed()[bare]
    spaced.accept(named)
    assert spaced.finished and piece_tokenizer.decode([space, named]) == " a"


def test_forced_tokens_are_the_tokenizers_own(bytes_compiler: GrammarCompiler) -> None:
    tokenizer = bytes_compiler._tokenizer
    matcher = bytes_compiler.matcher(GrammarSpec("regex", r'true": (1|2)'))
    forced = matcher.forced()
    assert len(forced) >= 2 and forced == tokenizer.encode('true": ')[: len(forced)]
    assert matcher.accepted == 0 and matcher.fits(forced) == len(forced)
    assert bytes_compiler.matcher(GrammarSpec("regex", "a|b")).forced() == []


def test_what_grows_too_complex_stops_with_an_error(bytes_compiler: GrammarCompiler) -> None:
    matcher = bytes_compiler.matcher(GrammarSpec("regex", "(.{1,300}a){1,30}"))
    token = bytes_compiler._tokenizer.encode("a")[0]
    for _ in range(400):
        if matcher.error is not None:
            break
        matcher.accept(token)
    assert matcher.error is not None and "too complex" in matcher.error
    row = np.zeros(len(matcher.allowed()))
    matcher.mask(row)
    assert np.isneginf(row).all()


def test_matchers_of_one_grammar_do_not_disturb_one_another(compiler: GrammarCompiler, speak: Speak) -> None:
    grammar = compiler.compile(SCHEMA).result()
    alone = [speak(compiler._tokenizer, grammar.matcher(), seed) for seed in range(3)]
    matchers: list[Matcher] = [grammar.matcher() for _ in range(3)]
    for place in range(max(len(ids) for ids, _ in alone)):
        for matcher, (ids, _) in zip(matchers, alone, strict=True):
            if place < len(ids):
                matcher.accept(ids[place])
    assert [m.complete for m in matchers] == [ended for _, ended in alone]
