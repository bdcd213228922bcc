from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.models.arpa import arpa_words
from arriero.models.ngram import NGram, read_arpa

HAND_WRITTEN = """\\data\\
ngram 1=5
ngram 2=4
ngram 3=1

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.4
-0.8\t</s>
-0.5\ta\t-0.3
-0.6\tb\t-0.2

\\2-grams:
-0.3\t<s> a\t-0.1
-0.4\ta b\t-0.25
-0.7\tb a
-0.2\tb </s>

\\3-grams:
-0.05\t<s> a b

\\end\\
"""

corpora = st.integers(2, 6).flatmap(
    lambda v: st.tuples(st.just(v), st.lists(st.lists(st.integers(0, v - 1), max_size=30), max_size=8))
)


def arpa(tmp_path: Path, text: str = HAND_WRITTEN, name: str = "m.arpa") -> Path:
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["m.arpa", "m.arpa.gz"])
def test_a_hand_written_file_scores_as_worked_by_hand(tmp_path: Path, name: str) -> None:
    model, words = read_arpa(arpa(tmp_path, name=name))
    assert words == ["<unk>", "<s>", "</s>", "a", "b"]
    ids = [words.index(word) for word in ["<s>", "a", "b", "b", "</s>"]]
    logs = model.token_logprobs([ids])[0] / math.log(10)
    # a: bigram; b: trigram; b: no trigram, no back-off of "a b" beyond -0.25, no bigram "b b": -0.25 - 0.2 - 0.6;
    # </s>: "b b" unknown as a context, bigram "b </s>"
    assert logs == pytest.approx([-0.3, -0.05, -1.05, -0.2])
    assert model.parameter_counts() == {"1-gram": 5, "2-gram": 4, "3-gram": 1}


@settings(max_examples=40, deadline=None)
@given(corpora, st.integers(1, 5), st.booleans(), st.lists(st.integers(0, 1), max_size=8))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory,
    corpus: tuple[int, list[list[int]]],
    order: int,
    packed: bool,
    text: list[int],
) -> None:
    vocab_size, documents = corpus
    model = NGram.fit(documents, order, vocab_size)
    path = tmp_path_factory.mktemp("arpa") / ("m.arpa.gz" if packed else "m.arpa")
    pieces = ["\n", " a", "é", "日本\u3000", "", "x\ty"][:vocab_size]
    pieces = [piece or "none" for piece in pieces]
    model.write_arpa(path, pieces, 0, 1)
    again, words = read_arpa(path, pieces, 0, 1)
    assert words == arpa_words(pieces, 0, 1) and words[:2] == ["<s>", "</s>"]
    assert again.token_logprobs([text])[0] == pytest.approx(model.token_logprobs([text])[0], abs=1e-7)
    assert again.distribution(text).sum() == pytest.approx(1, abs=1e-7)
    # without the vocabulary the file's words are the tokens, with <unk> before them
    alone, names = read_arpa(path)
    shifted = [names.index(words[token]) for token in text]
    assert alone.token_logprobs([shifted])[0] == pytest.approx(model.token_logprobs([text])[0], abs=1e-7)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = NGram.fit([[0, 1, 2, 1]], 3, 3)
    for name in ("a.arpa", "a.arpa.gz"):
        model.write_arpa(tmp_path / name, ["x", "y", "z"])
        first = (tmp_path / name).read_bytes()
        model.write_arpa(tmp_path / name, ["x", "y", "z"])
        assert (tmp_path / name).read_bytes() == first


def test_words_of_tokens() -> None:
    assert arpa_words(["a b", "\x00", "\u00a0", "c"], 3, None) == ["a<0x20>b", "<0x00>", "\u00a0", "<s>"]
    assert arpa_words(["<|end|>", "a"], 0, 0) == ["<|end|>", "a"]
    with pytest.raises(ArrieroError, match="tokens 0 and 1 would both be the word '<0x20>'"):
        arpa_words([" ", "<0x20>"])
    with pytest.raises(ArrieroError, match="token 1 has no text"):
        arpa_words(["a", ""])
    with pytest.raises(ArrieroError, match="1 texts for a model of 2 tokens"):
        NGram.fit([[0, 1]], 2, 2).write_arpa(Path("never.arpa"), ["a"])


def test_tokens_that_are_not_in_the_file_have_the_unknown_words_probability(tmp_path: Path) -> None:
    model, _ = read_arpa(arpa(tmp_path), ["<s>", "a", "b", "</s>", "more", "and more"])
    assert model.vocab_size == 6
    p = model.distribution([0])
    assert p[4] == p[5] == pytest.approx(10 ** (-0.4 - 1.5))
    with pytest.raises(ArrieroError, match=r"line 11: the word 'b' is no token"):
        read_arpa(arpa(tmp_path), ["<s>", "a", "</s>"])


FAULTS = {
    "no head": (HAND_WRITTEN.replace("\\data\\", "data"), r"line 22: the file ends where \\data\\ should be"),
    "no counts": ("\\data\\\n\\1-grams:\n", r"line 2: 'ngram 1=<number>' should be here"),
    "orders": (HAND_WRITTEN.replace("ngram 2", "ngram 4"), "line 3: the number of 2-grams should be here"),
    "too few": (
        HAND_WRITTEN.replace("ngram 2=4", "ngram 2=5"),
        r"line 19: 4 2-grams end here, but .* says 5",
    ),
    "number": (HAND_WRITTEN.replace("-0.8", "-0.8x"), "line 9: not a number in '-0.8x"),
    "not a number": (HAND_WRITTEN.replace("-0.8", "nan"), "line 9: log10 p should not be above 0"),
    "above 0": (HAND_WRITTEN.replace("-0.8", "0.8"), "line 9: log10 p should not be above 0, but is 0.8"),
    "fields": (HAND_WRITTEN.replace("-0.7\tb a", "-0.7\tb"), "line 16: 2 fields, .* 2 words and perhaps"),
    "top back-off": (HAND_WRITTEN.replace("<s> a b", "<s> a b\t-1"), "line 20: 5 fields, .* 3 words"),
    "unknown": (HAND_WRITTEN.replace("b a\n", "b c\n"), "line 16: 'c' is not among the 1-grams"),
    "word twice": (HAND_WRITTEN.replace("-0.6\tb", "-0.6\ta"), "line 11: the word 'a' is there twice"),
    "twice": (HAND_WRITTEN.replace("b a\n", "a b\n"), "line 16: 'a b' is there twice"),
    "prefix": (
        HAND_WRITTEN.replace("<s> a b", "a a b"),
        "line 20: 'a a b' has no line for its first 2 words",
    ),
    "cut short": (HAND_WRITTEN[:-7], r"line 20: the file ends where \\end\\ should be"),
    "section": (HAND_WRITTEN.replace("\\3-grams", "\\4-grams"), r"line 19: \\3-grams: should be here"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_with_its_line(tmp_path: Path, fault: str) -> None:
    text, message = FAULTS[fault]
    with pytest.raises(ArrieroError, match=message):
        read_arpa(arpa(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="No such file"):
        read_arpa(tmp_path / "no.arpa")
    path = arpa(tmp_path, name="m.arpa.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArrieroError, match="cannot be read"):
        read_arpa(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_never_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(HAND_WRITTEN.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=4))
    path = tmp_path_factory.mktemp("damaged") / "m.arpa"
    path.write_bytes(bytes(raw))
    try:
        model, _ = read_arpa(path)
    except ArrieroError as error:
        assert "\n" not in str(error)
    else:
        assert not np.isnan(model.distribution([0])).any()
