"""Every format of a tokenizer's files, known by its content."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.load import load_tokenizer
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.special import SPECIAL_TOKENS
from arriero.tokenization.stream import StreamDecoder
from arriero.tokenization.tiktoken_ranks import from_ranks, parse_ranks
from arriero.tokenization.tokenizer import Tokenizer

DATA = Path(__file__).resolve().parent.parent / "data"
LLAMA2C = DATA / "stories260k" / "tok512.bin"
BERT = DATA / "tokenizers" / "bert_uncased_vocab.txt"
TEXT = st.lists(
    st.sampled_from([" ", "  ", "\n", "12", "'s", "é", "日本", "🦙", "Once upon a time", "\x00"])
    | st.text(max_size=6)
).map("".join)


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_bpe([*sample_texts(60_000), "日本 é 12 123\n\n"], 600, "gpt2", 2)


@pytest.fixture(scope="module")
def ranks(trained: Tokenizer) -> dict[bytes, int]:
    special = set(trained.special_ids.values())
    return {
        trained.token_bytes(id): id - len(special) for id in range(trained.vocab_size) if id not in special
    }


@pytest.fixture(scope="module")
def llama2c() -> Tokenizer:
    return load_tokenizer(LLAMA2C)


def test_golden_ids_of_bert() -> None:
    bert = load_tokenizer(BERT)
    rows = [json.loads(line) for line in (DATA / "tokenizers" / "golden_ids.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    for row in rows:
        assert bert.encode(row["text"]) == row["ids"]["bert_uncased"]
    assert (bert.bos_id, bert.eos_id, bert.pad_id, bert.unk_id, bert.mask_id) == (101, 102, 0, 100, 103)
    assert (
        bert.decode(bert.encode("Unbelievable, isn't it?", bos=True, eos=True)) == "unbelievable, isn ' t it?"
    )


def test_llama2c(llama2c: Tokenizer) -> None:
    assert (llama2c.vocab_size, llama2c.bos_id, llama2c.eos_id) == (512, 1, 2)
    ids = llama2c.encode("Once upon a time")
    assert ids[0] == 403 and llama2c.decode(ids) == "Once upon a time"
    assert llama2c.token_bytes(3 + 0xE9) == b"\xe9"


@given(TEXT)
def test_text_comes_back_from_byte_fallback(llama2c: Tokenizer, text: str) -> None:
    text = text.replace("▁", "")  # SentencePiece writes spaces with it and can't tell the two apart
    ids = llama2c.encode(text)
    assert llama2c.decode(ids) == text
    decoder = StreamDecoder(llama2c)
    assert "".join(map(decoder.push, ids)) + decoder.finish() == text


@given(TEXT)
def test_ranks_give_the_ids_of_the_merges(trained: Tokenizer, ranks: dict[bytes, int], text: str) -> None:
    loaded = from_ranks(ranks, "gpt2")
    assert loaded.encode(text) == [id - len(SPECIAL_TOKENS) for id in trained.encode(text)]
    assert loaded.decode(loaded.encode(text)) == text


@given(st.binary(max_size=40))
def test_any_bytes_come_back_from_a_byte_level_tokenizer(trained: Tokenizer, data: bytes) -> None:
    assert trained.decode_bytes(trained.encode_bytes(data)) == data


def test_text_is_encoded_as_text_by_encode_bytes(trained: Tokenizer, llama2c: Tokenizer) -> None:
    assert trained.encode_bytes("Once é🦙".encode()) == trained.encode("Once é🦙")
    with pytest.raises(ArrieroError, match="byte-level"):
        llama2c.encode_bytes(b"a")


def write_ranks(file: Path, ranks: dict[bytes, int]) -> Path:
    file.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))
    return file


def test_files_are_known_by_their_content(
    trained: Tokenizer, ranks: dict[bytes, int], tmp_path: Path
) -> None:
    text = "Once upon 123 times, it's é日本 🦙"
    file = write_ranks(tmp_path / "whatever.model", ranks)
    with pytest.raises(ArrieroError, match="say how text is split"):
        load_tokenizer(file)
    loaded = load_tokenizer(file, pattern="gpt2")
    assert loaded.decode(loaded.encode(text)) == text and loaded.eos_id == len(ranks)

    model = trained.definition["model"]
    for vocabulary, merges in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        folder = tmp_path / vocabulary
        folder.mkdir()
        (folder / vocabulary).write_text(json.dumps(model["vocab"]))
        pairs = (" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"])
        (folder / merges).write_text("\n".join(["#version: 0.2", *pairs]) + "\n")
        for path in (folder, folder / vocabulary, folder / merges):
            assert Tokenizer.load(path).encode(text) == trained.encode(text)
        (folder / merges).unlink()
        with pytest.raises(ArrieroError, match="other half"):
            Tokenizer.load(folder)

    (tmp_path / "renamed.txt").write_bytes(LLAMA2C.read_bytes())
    assert load_tokenizer(tmp_path / "renamed.txt").vocab_size == 512
    (tmp_path / "other.json").write_text(json.dumps(trained.definition))
    assert load_tokenizer(tmp_path / "other.json").encode(text) == trained.encode(text)


@pytest.mark.parametrize("file", [BERT, LLAMA2C])
def test_all_become_tokenizer_json(file: Path, tmp_path: Path) -> None:
    loaded = load_tokenizer(file)
    loaded.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == loaded.fingerprint and again.special_ids == loaded.special_ids
    assert again.encode("Hello, world! ümlaut") == loaded.encode("Hello, world! ümlaut")


def test_the_configuration_beside_a_file_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(BERT.read_bytes())
    assert Tokenizer.load(tmp_path).encode("Hello") == Tokenizer.load(tmp_path).encode("hello")
    (tmp_path / "tokenizer_config.json").write_text(
        '{"do_lower_case": false, "chat_template": "{{ bos_token }}"}'
    )
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode("Hello") != loaded.encode("hello")
    assert loaded.chat.source == "{{ bos_token }}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no tokenizer"),
        (b"\x00\x01\x02", "is no tokenizer"),
        (b"{", "is not JSON"),
        (b'{"a": "b"}', "pieces with their ids"),
        (b"YQ== 0\nYg== 2\n", "numbers from 0 on"),
        (b"YQ== 0\nYg== x\n", "line 2"),
        (b"YQ== 0\n", "256 bytes"),
        (b"[UNK]\n[CLS]\na\n", r"needs \[SEP\]"),
        (b"[UNK]\n[CLS]\n[SEP]\na\na\n", "twice"),
        (b"[UNK]\n[CLS]\n\xff", "not UTF-8"),
        (struct.pack("<if", 3, 0.0), "is no tokenizer"),
    ],
)
def test_damaged_files_are_one_clear_line(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(ArrieroError, match=said) as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value) and "tokenizer.model" in str(caught.value)


@given(st.integers(0, 6200), st.integers(0, 255))
def test_a_damaged_byte_never_ends_in_a_traceback(position: int, byte: int) -> None:
    from arriero.tokenization.llama2c import parse_bin
    from arriero.tokenization.sentencepiece_model import parse_model, to_tokenizer

    data = bytearray(LLAMA2C.read_bytes())
    data[position] = byte
    for parse in (parse_bin, parse_model):
        with contextlib.suppress(ArrieroError):
            to_tokenizer(parse(bytes(data[: len(data) - byte % 3])))


def test_ranks_must_be_whole() -> None:
    with pytest.raises(ArrieroError, match="unknown pattern 'gpt3'; did you mean 'gpt2'"):
        from_ranks({bytes([b]): b for b in range(256)}, "gpt3")
    with pytest.raises(ArrieroError, match="line 1"):
        parse_ranks(b"not base64!\n")
