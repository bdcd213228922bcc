from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.tokenization.bpe import MIN_VOCAB, train_bpe
from arriero.tokenization.special import SPECIAL_TOKENS
from arriero.tokenization.stream import StreamDecoder
from arriero.tokenization.tokenizer import Tokenizer

SPECIAL_PIECES = st.sampled_from([*SPECIAL_TOKENS, "<|im_", "end|>", "é", "🦙", "\n", " ", "\x00"])
TEXT = st.text() | st.lists(SPECIAL_PIECES | st.text(max_size=5)).map("".join)


@given(TEXT)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.special_ids.values())  # special strings in a text stay plain text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


@given(TEXT, st.sampled_from(["llama3", "gpt2"]))
@settings(max_examples=30)
def test_any_text_comes_back_from_a_tokenizer_that_saw_almost_nothing(text: str, pattern: str) -> None:
    bare = train_bpe(["a"], 300, pattern, 2)  # type: ignore[arg-type]
    assert bare.vocab_size == MIN_VOCAB
    assert bare.decode(bare.encode(text)) == text


@given(st.lists(st.integers(0, 399)))
def test_streamed_text_is_the_decoded_text_and_never_half_a_character(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    ids = [id for id in ids if id < tokenizer.vocab_size]
    for skip in (True, False):
        decoder = StreamDecoder(tokenizer, skip_special=skip)
        assert "".join(map(decoder.push, ids)) + decoder.finish() == tokenizer.decode(ids, skip_special=skip)


def test_a_character_is_held_back_until_it_is_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🦙")
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push(id) for id in ids] == [""] * (len(ids) - 1) + ["🦙"]


def test_bos_and_eos_only_on_demand(tokenizer: Tokenizer) -> None:
    plain = tokenizer.encode("Hello")
    assert tokenizer.encode("Hello", bos=True, eos=True) == [tokenizer.bos_id, *plain, tokenizer.eos_id]
    assert tokenizer.encode_batch(["Hello", ""]) == [plain, []]
    assert tokenizer.decode([tokenizer.bos_id, *plain], skip_special=False) == "<|begin_of_text|>Hello"
    assert [tokenizer.special_ids[name] for name in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert tokenizer.end_of_turn_id == 4


def test_saved_and_loaded_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "a")
    loaded = Tokenizer.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode("the road costs 12345") == tokenizer.encode("the road costs 12345")
    assert loaded.chat.source == tokenizer.chat.source


def test_training_gives_the_same_in_another_process(tokenizer: Tokenizer) -> None:
    code = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('c', sys.argv[1]);"
        "m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m);"
        "from arriero.tokenization.bpe import train_bpe; print(train_bpe(m.TEXTS, 400, 'llama3', 2).fingerprint)"
    )
    conftest = Path(__file__).with_name("conftest.py")
    done = subprocess.run([sys.executable, "-c", code, conftest], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tokenizer.fingerprint


def test_digits_are_grouped_by_three_at_most() -> None:
    texts = ["12345678 " * 50, "99999 " * 50]
    longest = max(len(t) for t in _digit_tokens(train_bpe(texts, 300, "llama3", 2)))
    assert longest <= 3 < max(len(t) for t in _digit_tokens(train_bpe(texts, 300, "gpt2", 2)))


def _digit_tokens(tokenizer: Tokenizer) -> list[bytes]:
    return [piece for id in range(tokenizer.vocab_size) if (piece := tokenizer.token_bytes(id)).isdigit()]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", b"{", "is no tokenizer"),
        ("tokenizer.json", b"\xff", "is not UTF-8"),
        ("tokenizer.json", b"{}", "is no tokenizer"),
        ("tokenizer_config.json", b"[]", "should hold a JSON object"),
        ("tokenizer_config.json", b"nope", "is not JSON"),
        ("tokenizer_config.json", b'{"bos_token": "<s>"}', "has no bos_token"),
    ],
)
def test_damaged_files_are_one_clear_line(
    tokenizer: Tokenizer, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArrieroError, match=said) as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_folder_half_a_surrogate_and_unknown_id(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path)
    with pytest.raises(ArrieroError, match="surrogate"):
        tokenizer.encode("\ud800")
    with pytest.raises(ArrieroError, match="must be a string"):
        tokenizer.encode(3)  # type: ignore[arg-type]
    with pytest.raises(ArrieroError, match="outside the vocabulary"):
        tokenizer.decode([10**6])
