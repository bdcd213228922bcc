"""tiktoken's ids against the `tokenizers` library's, where they should be equal and where they should be refused."""

from __future__ import annotations

import importlib
import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.build import byte_level
from arriero.tokenization.byte_level import byte_of_character
from arriero.tokenization.fast import (
    FastEncoder,
    SlowEncoder,
    UnequalError,
    _last_join_of_long,
    last_join,
    make_encoder,
    proved_ranks,
)
from arriero.tokenization.patterns import SPLIT_PATTERNS
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.sentencepiece_train import train_sentencepiece
from arriero.tokenization.tokenizer import Tokenizer

pytest.importorskip("tiktoken")

CHARACTER = {byte: character for character, byte in byte_of_character().items()}
# what patterns treat in special ways: all kinds of white space, ends, digits, marks, cases, contractions
ODD = " \t\n\r\x0b\x0c\x85\xa0\u2028\u3000'’sStTrReEvVmMlLdDſK1٣½Ⅷ一あée\u0301\u200dǅʰ.!_-/\\<|\U0001f600\U0001f3fd\0"
odd_texts = st.text(st.sampled_from(ODD), max_size=60) | st.text(max_size=40)


def trained(pattern: str, vocab: int = 900) -> Tokenizer:
    """A tokenizer with merges of all sorts, cut by any published pattern."""
    rng = random.Random(5)
    odd = ["".join(rng.choices(ODD, k=30)) for _ in range(300)]
    base = train_bpe([*sample_texts(30_000), *odd], vocab, "llama3", 2).definition["model"]
    specials = {"<|end|>": vocab + 10}
    names = {"eos_token": "<|end|>"}
    vocabulary = {piece: id for piece, id in base["vocab"].items() if not piece.startswith("<|")}
    return byte_level(vocabulary, [tuple(m) for m in base["merges"]], pattern, specials, names)


@pytest.fixture(scope="module", params=list(SPLIT_PATTERNS))
def both(request: pytest.FixtureRequest) -> tuple[Tokenizer, FastEncoder]:
    tokenizer = trained(request.param)
    return tokenizer, FastEncoder(tokenizer)


@settings(max_examples=80, deadline=None)
@given(texts=st.lists(odd_texts, min_size=1, max_size=8))
def test_ids_are_equal_for_every_published_pattern(both, texts: list[str]) -> None:
    tokenizer, fast = both
    assert fast.encode_batch(texts) == tokenizer.encode_batch(texts)


def test_every_character_is_cut_alike(both) -> None:
    """Each character alone, among letters, after white space and before a digit."""
    tokenizer, fast = both
    characters = [chr(c) for c in range(0x3100) if not 0xD800 <= c < 0xE000]
    texts = [f"{c}a {c}1{c}{c} '{c}\n{c}" for c in characters]
    assert fast.encode_batch(texts) == tokenizer.encode_batch(texts)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 30_000, " " * 30_000, " " * 30_000 + "x", "\t " * 15_000, "\n" * 30_000, "ab" * 15_000, "!" * 30_000,
        "あ" * 10_000, "1" * 30_000, "\u2028" * 10_000, "é" * 9_000 + " " * 9_000 + "\r\n" * 9_000,
    ],
    ids=lambda text: repr(text[:2]),
)  # fmt: skip
def test_long_runs_are_equal(both, text: str) -> None:
    """They are not cut into pieces of 25,000, as Llama 3's own code cuts them: the ids are those of `tokenizers`."""
    tokenizer, fast = both
    assert fast.encode_batch([text]) == tokenizer.encode_batch([text])


def test_runs_that_tiktoken_cannot_take_are_left_to_tokenizers(capfd) -> None:
    tokenizer = train_bpe(sample_texts(20_000), 400, "llama3", 2)
    fast = FastEncoder(tokenizer)
    texts = ["short", " " * 1_000_000, "\t " * 700_000, "after"]
    assert fast.encode_batch(texts) == tokenizer.encode_batch(texts)


merge_lists = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=25)


def random_tokenizer(picks: list[tuple[int, int]], whole_words: bool, seed: int) -> Tokenizer:
    """Merges of any two pieces there are, in any order: mostly nothing that training would give."""
    pieces = list("abc")
    merges: list[tuple[str, str]] = []
    for left, right in picks:
        pair = pieces[left % len(pieces)], pieces[right % len(pieces)]
        if pair not in merges and len("".join(pair)) < 9:
            merges.append(pair)
            pieces += [] if "".join(pair) in pieces else ["".join(pair)]
    if seed % 3 == 0:
        random.Random(seed).shuffle(merges)
    vocab = {CHARACTER[byte]: byte for byte in range(256)}
    order = [piece for piece in pieces if len(piece) > 1]
    random.Random(seed).shuffle(order)
    vocab |= {piece: 256 + n for n, piece in enumerate(order)}
    tokenizer = byte_level(vocab, merges, "gpt2", {"<|end|>": 256 + len(order)}, {"eos_token": "<|end|>"})
    definition = tokenizer.definition
    definition["model"]["ignore_merges"] = whole_words
    return Tokenizer(importlib.import_module("json").dumps(definition), tokenizer.config)


@settings(max_examples=250, deadline=None)
@given(
    merge_lists,
    st.booleans(),
    st.integers(0, 50),
    st.lists(st.text(st.sampled_from("abc"), max_size=30), min_size=6, max_size=6),
)
def test_any_list_of_merges_is_equal_or_refused(
    picks: list[tuple[int, int]], whole_words: bool, seed: int, texts: list[str]
) -> None:
    """The proof's own test: whatever it lets pass is equal on every text."""
    tokenizer = random_tokenizer(picks, whole_words, seed)
    try:
        fast = FastEncoder(tokenizer)
    except UnequalError:
        return
    every = [a + b + c + d for a in "abc" for b in "abc" for c in "abc" for d in ("", "a", "b", "cab", "bca")]
    assert fast.encode_batch([*texts, *every]) == tokenizer.encode_batch([*texts, *every])


def test_the_proof_lets_some_pass_and_refuses_some() -> None:
    """Else the test above would show nothing."""
    rng = random.Random(1)
    passed = refused = unequal = 0
    for seed in range(120):
        tokenizer = random_tokenizer([(rng.randrange(99), rng.randrange(99)) for _ in range(5)], False, seed)
        try:
            FastEncoder(tokenizer)
            passed += 1
        except UnequalError:
            refused += 1
            unequal += _differs(tokenizer, rng)
    assert passed > 10
    assert refused > 10
    assert unequal > 3, "what is refused does differ at times"


def _differs(tokenizer: Tokenizer, rng: random.Random) -> bool:
    """Whether plain joining by ranks gives other pieces on some text."""
    vocab = tokenizer.definition["model"]["vocab"]
    order = {
        "".join(m).encode(): n for n, m in reversed(list(enumerate(tokenizer.definition["model"]["merges"])))
    }
    for _ in range(60):
        text = "".join(rng.choices("abc", k=12))
        parts = [bytes([byte]) for byte in text.encode()]
        while True:
            pairs = [order.get(x + y, 1 << 30) for x, y in itertools.pairwise(parts)]
            if not pairs or min(pairs) == 1 << 30:
                break
            at = pairs.index(min(pairs))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if [vocab[part.decode()] for part in parts] != tokenizer.encode(text):
            return True
    return False


def test_last_join() -> None:
    ranks = {b"bc": 0, b"ab": 1, b"abc": 2}
    assert last_join(b"abc", ranks) == (b"a", b"bc")
    assert last_join(b"ab", ranks) == (b"a", b"b")
    assert last_join(b"xyz", ranks) is None


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from("ab"), min_size=2, max_size=24),
    st.dictionaries(st.text(st.sampled_from("ab"), min_size=2, max_size=6), st.integers(0, 9), max_size=30),
)
def test_the_last_join_of_long_tokens_is_that_of_short_ones(text: str, given_ranks: dict[str, int]) -> None:
    order = sorted(given_ranks, key=lambda word: (given_ranks[word], word))
    ranks = {word.encode(): number for number, word in enumerate(order)}
    assert _last_join_of_long(text.encode(), ranks) == last_join(text.encode(), ranks)


def test_tokens_of_long_runs_are_proved_in_time() -> None:
    tokenizer = train_bpe(["word " * 50, " " * 20_000 + "y"], 290, "llama3", 2)
    assert max(len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)) > 4000
    text = " " * 30_000 + "word"
    assert FastEncoder(tokenizer).encode_batch([text]) == tokenizer.encode_batch([text])


def changed(tokenizer: Tokenizer, change: Any) -> Tokenizer:
    definition = tokenizer.definition
    change(definition)
    return Tokenizer(importlib.import_module("json").dumps(definition), tokenizer.config)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d.update(normalizer={"type": "NFC"}), "normalises"),
        (lambda d: d["model"].update(dropout=0.1), "dropout"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][-1].update(add_prefix_space=True), "space before"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(behavior="MergedWithNext"), "something else"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": r"\w+"}), "none of the published"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"].pop(0), "none of the published"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Whitespace"}), "something else"),
        (lambda d: d["model"]["merges"].reverse(), "merge"),
    ],
)  # fmt: skip
def test_what_could_differ_is_refused(change: Any, why: str) -> None:
    tokenizer = changed(train_bpe(sample_texts(20_000), 400, "llama3", 2), change)
    with pytest.raises(UnequalError, match=why):
        FastEncoder(tokenizer)
    encoder = make_encoder(tokenizer)
    assert encoder.library == "tokenizers"
    if why != "dropout":  # which is random
        assert encoder.encode_batch(["some text"]) == tokenizer.encode_batch(["some text"])


def test_sentencepiece_is_left_to_tokenizers() -> None:
    tokenizer = train_sentencepiece(sample_texts(20_000), 400, "bpe")
    assert isinstance(make_encoder(tokenizer), SlowEncoder)


def test_names_of_special_tokens_and_added_words_in_a_text() -> None:
    tokenizer = train_bpe(sample_texts(20_000), 400, "gpt2", 2)
    word = {"content": "zebra!", "single_word": False, "lstrip": True, "rstrip": False, "normalized": True}

    def add(definition: dict[str, Any]) -> None:
        definition["added_tokens"].append({"id": tokenizer.vocab_size, **word, "special": False})

    for one in (tokenizer, changed(tokenizer, add)):
        fast = FastEncoder(one)
        texts = ["<|begin_of_text|>a<|end_of_text|>", "a zebra! b", "zebra", "  zebra!", ""]
        assert fast.encode_batch(texts) == one.encode_batch(texts)
    assert tokenizer.vocab_size in changed(tokenizer, add).encode("a zebra! b")


def test_half_a_surrogate_is_refused_as_before() -> None:
    fast = FastEncoder(train_bpe(sample_texts(20_000), 300, "llama3", 2))
    with pytest.raises(ArrieroError, match="surrogate"):
        fast.encode_batch(["fine", "\ud800"])


def test_characters_that_the_engines_class_differently_are_left_to_tokenizers(monkeypatch) -> None:
    """As if a newer Unicode had made Q a letter for one of the two only."""
    from arriero.tokenization import fast as module

    monkeypatch.setattr(
        module, "_differing_in", lambda name: frozenset("Q") if name == r"\p{L}" else frozenset()
    )
    tokenizer = train_bpe(sample_texts(20_000), 300, "llama3", 2)
    fast = FastEncoder(tokenizer)
    assert fast._encode("plain") is not None
    assert fast._encode("a Q") is None
    assert fast.encode_batch(["plain", "a Q"]) == tokenizer.encode_batch(["plain", "a Q"])


def test_differing_characters_are_found() -> None:
    from arriero.tokenization.fast import _differing_in

    # POSIX brackets mean a class to one engine and five letters to the other, so they stand in for a difference
    assert _differing_in(r"\s") == frozenset()
    assert _differing_in("[[:word:]]")


def test_a_sample_that_differs_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_bpe(sample_texts(20_000), 300, "llama3", 2)
    assert make_encoder(tokenizer, ["some text"]).library == "tiktoken"
    monkeypatch.setattr(FastEncoder, "_encode", lambda self, text: [1])
    assert make_encoder(tokenizer, ["some text"]).library == "tokenizers"


def test_without_tiktoken_tokenizers_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    tokenizer = train_bpe(sample_texts(20_000), 300, "llama3", 2)
    monkeypatch.setattr(importlib, "import_module", absent)
    encoder = make_encoder(tokenizer)
    assert isinstance(encoder, SlowEncoder)
    assert "not installed" in encoder.why


@pytest.mark.parametrize("shuffled", [False, True])
def test_ranks_keep_the_ids(shuffled: bool) -> None:
    """Where ids go up with the merges they are the ranks; else there is a table."""

    def shuffle(definition: dict[str, Any]) -> None:
        vocab = definition["model"]["vocab"]
        learnt = [piece for piece in vocab if vocab[piece] > 300]
        order = [vocab[piece] for piece in learnt]
        random.Random(0).shuffle(order)
        vocab.update(zip(learnt, order, strict=True))

    tokenizer = train_bpe(sample_texts(20_000), 400, "llama3", 2)
    if shuffled:
        tokenizer = changed(tokenizer, shuffle)
    ranks, ids = proved_ranks(tokenizer.definition)
    assert (ids is not None) == shuffled
    special = tokenizer.special_ids.values()
    assert {token: rank if ids is None else ids[rank] for token, rank in ranks.items()} == {
        tokenizer.token_bytes(id): id for id in range(tokenizer.vocab_size) if id not in special
    }
    texts = sample_texts(30_000)
    assert FastEncoder(tokenizer).encode_batch(texts) == tokenizer.encode_batch(texts)
