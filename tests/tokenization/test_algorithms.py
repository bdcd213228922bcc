"""SentencePiece, unigram and WordPiece training, and the stage's setting that chooses among them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.artifacts import Artifact
from arriero.errors import ArrieroError
from arriero.stage import get_stage
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.stream import StreamDecoder
from arriero.tokenization.tokenizer import Tokenizer
from arriero.tokenization.wordpiece_train import train_wordpiece

TEXTS = [*sample_texts(40_000), "Zahlen: 1 12 123 1234. Çava? 日本語 éàü.\n\n\tTabs and   spaces."]
STAGE = get_stage("tokenizer")


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def sentencepiece(request: pytest.FixtureRequest) -> Tokenizer:
    pytest.importorskip("sentencepiece")
    from arriero.tokenization.sentencepiece_train import train_sentencepiece

    return train_sentencepiece(TEXTS, 500, request.param)


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return train_wordpiece(TEXTS, 500)


@given(
    st.lists(st.sampled_from([" ", "  ", "\n", "\t", "12", "é", "日本", "🦙", "e t"]) | st.text(max_size=5))
)
def test_any_text_comes_back_from_sentencepiece(sentencepiece: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts).replace("▁", "")
    ids = sentencepiece.encode(text)
    assert sentencepiece.decode(ids) == text
    assert not set(ids) & set(sentencepiece.special_ids.values())


def test_sentencepiece_is_as_llama_has_it(sentencepiece: Tokenizer) -> None:
    assert sentencepiece.vocab_size == 500
    assert (sentencepiece.unk_id, sentencepiece.bos_id, sentencepiece.eos_id) == (0, 1, 2)
    pieces = [sentencepiece.token_bytes(id) for id in range(sentencepiece.vocab_size)]
    assert max(len(piece) for piece in pieces if piece.strip().isdigit()) == 1
    assert [sentencepiece.token_bytes(id) for id in sentencepiece.encode("🦙")][-4:] == [
        bytes([byte]) for byte in "🦙".encode()
    ]
    rendered = sentencepiece.chat.render(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    )
    assert rendered.ids[0] == 1 and rendered.ids.count(sentencepiece.end_of_turn_id) == 2


def test_rare_characters_take_no_more_than_half_of_a_small_vocabulary() -> None:
    pytest.importorskip("sentencepiece")
    from arriero.tokenization.sentencepiece_train import train_sentencepiece

    chinese = "".join(chr(0x4E00 + n) * (2 if n < 30 else 1) for n in range(400))
    small = train_sentencepiece([chinese, "the the the tea"], 300)
    assert small.vocab_size <= 300 and small.decode(small.encode(chinese)) == chinese
    with pytest.raises(ArrieroError, match="262 is too small"):
        train_sentencepiece(TEXTS, 262)
    with pytest.raises(ArrieroError, match="no characters"):
        train_sentencepiece(["", ""], 300)


def test_wordpiece_is_berts(wordpiece: Tokenizer) -> None:
    assert wordpiece.vocab_size == 500
    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert [wordpiece.token_id(name) for name in names] == [0, 1, 2, 3, 4]
    assert (wordpiece.bos_id, wordpiece.eos_id, wordpiece.pad_id, wordpiece.end_of_turn_id) == (2, 3, 0, 3)
    ids = wordpiece.encode("Çava? Zahlen ☃.")
    assert wordpiece.decode(ids) == "cava? zahlen. ".strip()
    assert wordpiece.unk_id in ids
    cased = train_wordpiece(TEXTS, 500, lowercase=False)
    assert cased.decode(cased.encode("Zahlen")) == "Zahlen"
    with pytest.raises(ArrieroError, match="no chat template"):
        _ = wordpiece.chat


@given(st.lists(st.integers(0, 499), max_size=10))
def test_streams_of_every_kind(wordpiece: Tokenizer, sentencepiece: Tokenizer, ids: list[int]) -> None:
    for tokenizer in (wordpiece, sentencepiece):
        for skip in (True, False):
            decoder = StreamDecoder(tokenizer, skip_special=skip)
            streamed = "".join(map(decoder.push, ids)) + decoder.finish()
            assert streamed == tokenizer.decode(ids, skip_special=skip)


@pytest.mark.parametrize("algorithm", ["sentencepiece", "unigram", "wordpiece"])
def test_another_process_learns_the_same(algorithm: str) -> None:
    if algorithm != "wordpiece":
        pytest.importorskip("sentencepiece")
    code = (
        "import sys; from arriero.tokenization.train import _learn, TokenizerSettings as S;"
        "from arriero.tokenization.sample_text import sample_texts;"
        "print(_learn([*sample_texts(40_000), 'é日本'], S(algorithm=sys.argv[1], vocab_size=400))[0].fingerprint)"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", code, algorithm], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(prints) == 1


@pytest.mark.parametrize("algorithm", ["sentencepiece", "unigram", "wordpiece"])
def test_the_stage_learns_with_each(
    algorithm: str, make_context: Callable[..., Any], corpus_artifact: Callable[..., Artifact]
) -> None:
    if algorithm != "wordpiece":
        pytest.importorskip("sentencepiece")
    corpus = corpus_artifact(train=TEXTS, validation=TEXTS[:2])
    context = make_context()
    settings = STAGE.Settings(algorithm=algorithm, vocab_size=400)
    outcome = STAGE.run(settings, {"corpus": corpus}, context)
    tokenizer = Tokenizer.load(context.folder)
    assert outcome.spec.vocab_size == tokenizer.vocab_size == 400
    assert outcome.facts["algorithm"] == algorithm and 0 < outcome.facts["merges"] < 400
    size = sum(len(text.encode()) for text in TEXTS[:2]) / sum(map(len, tokenizer.encode_batch(TEXTS[:2])))
    assert outcome.facts["bytes_per_token"]["validation"] == pytest.approx(size, abs=1e-4)


def test_a_setting_that_the_algorithm_does_not_read_is_refused() -> None:
    for wrong in (
        {"algorithm": "unigram", "min_frequency": 3},
        {"algorithm": "wordpiece", "pre_tokenizer": "gpt2"},
        {"algorithm": "bpe", "lowercase": False},
    ):
        with pytest.raises(ValidationError, match="is not for algorithm"):
            STAGE.Settings(**wrong)


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from arriero.tokenization.sentencepiece_train import train_sentencepiece

    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ArrieroError, match="pip install sentencepiece"):
        train_sentencepiece(["a"], 300)
