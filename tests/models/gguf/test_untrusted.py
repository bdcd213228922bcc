"""Files from anywhere: every fault is one line, and no length is believed."""

from __future__ import annotations

import resource
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.models.gguf.conftest import VALUES, random_tensors

from arriero.errors import ArrieroError
from arriero.models.gguf import open_gguf

Write = Callable[..., Path]
VALUES_SMALL = {**VALUES["llama"], "num_hidden_layers": 1}
TOKENS = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": [f"t{i}" for i in range(75)],
    "tokenizer.ggml.scores": [float(-i) for i in range(75)],
    "tokenizer.ggml.eos_token_id": 2,
}


def header_of(*parts: bytes) -> bytes:
    return b"GGUF" + b"".join(parts) + bytes(200)


def open_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    open_gguf(path).close()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin with GGUF"),
        (b"GGML" + bytes(100), "does not begin with GGUF"),
        (header_of(struct.pack("<I", 1)), "has version 1"),
        (header_of(struct.pack(">I", 3)), "is big-endian"),
        (header_of(struct.pack("<IQQ", 3, 1 << 60, 0)), "the length of tensors at byte 24 goes beyond"),
        (header_of(struct.pack("<IQQ", 3, 0, 1 << 62)), "the length of metadata at byte 24 goes beyond"),
        (header_of(struct.pack("<IQQQ", 3, 0, 1, 1 << 63)), "the length of a string"),
        (header_of(struct.pack("<IQQQ", 3, 0, 1, 1), b"\xff"), "is not UTF-8"),
        (header_of(struct.pack("<IQQQ", 3, 0, 1, 1), b"k", struct.pack("<I", 99)), "metadata of type 99"),
        (header_of(struct.pack("<IQQQ", 3, 0, 1, 1), b"k", struct.pack("<IIQ", 9, 0, 1 << 61)), "the length of an array"),
        (header_of(struct.pack("<IQQQ", 3, 0, 1, 1), b"k", struct.pack("<IIQ", 9, 9, 1), b"".join([struct.pack("<IQ", 9, 1)] * 9)), "metadata of type 9"),
        (header_of(struct.pack("<IQQ", 3, 2, 0)), "has 0 dimensions"),
    ],
)  # fmt: skip
def test_bad_headers(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ArrieroError, match=message):
        open_bytes(tmp_path, data)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match=r"none.gguf cannot be read: No such file"):
        open_gguf(tmp_path / "none.gguf")
    with pytest.raises(ArrieroError, match="cannot be read: Is a directory"):
        open_gguf(tmp_path)


def patched(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert data.count(old) == 1 and len(old) == len(new)
    path.write_bytes(data.replace(old, new))
    return path


def number(key: str, value: int) -> bytes:
    return key.encode() + struct.pack("<II", 4, value)


@pytest.mark.parametrize(
    ("key", "old", "new", "message"),
    [
        ("llama.block_count", 1, 1 << 31, "llama.block_count is 2147483648; it should be"),
        ("llama.block_count", 1, 9999, "block_count is 9999, more than there are tensors"),
        (
            "llama.embedding_length",
            64,
            1 << 20,
            r"token_embd.weight has shape \[75, 64\], the metadata ask for",
        ),
        ("llama.feed_forward_length", 96, 1 << 24, "blk.0.ffn_up.weight has shape"),
        ("llama.context_length", 128, (1 << 32) - 1, "llama.context_length is 4294967295; it should be"),
        ("llama.attention.head_count", 4, 0, "head_count is 0"),
        ("llama.attention.head_count", 4, 3, "blk.0.attn_q.weight has shape"),
        ("llama.attention.key_length", 32, 31, "value_length differs from the width of a head"),
        ("tokenizer.ggml.eos_token_id", 2, 1 << 30, None),
    ],
)
def test_figures_that_contradict_the_tensors(
    write: Write, key: str, old: int, new: int, message: str | None
) -> None:
    path = write(VALUES_SMALL, random_tensors(VALUES_SMALL), "F16", tokenizer=TOKENS)
    patched(path, number(key, old), number(key, new))
    if message is None:
        assert open_gguf(path).special_ids()["eos_token_id"] is None
        return
    with pytest.raises(ArrieroError, match=message):
        open_gguf(path)


def test_unknown_architecture_and_type(write: Write) -> None:
    path = write(VALUES_SMALL, random_tensors(VALUES_SMALL), "F16")
    patched(path, b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0llamo")
    with pytest.raises(ArrieroError, match="GGUF architecture 'llamo'; did you mean 'llama'"):
        open_gguf(path)
    name = b"blk.0.attn_v.weight" + struct.pack("<IQQ", 2, 64, 64)
    patched(path, name + struct.pack("<I", 1), name + struct.pack("<I", 16))
    with pytest.raises(
        ArrieroError, match=r"attn_v.weight is stored as ggml type 16; Arriero reads F32, F16"
    ):
        open_gguf(path)


def test_cut_short_anywhere(write: Write) -> None:
    path = write(VALUES_SMALL, random_tensors(VALUES_SMALL), "Q8_0", tokenizer=TOKENS)
    data = path.read_bytes()
    for length in (*range(0, 4000, 37), len(data) - 40):  # the last bytes only fill up
        path.write_bytes(data[:length])
        with pytest.raises(ArrieroError):
            open_gguf(path)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.models.gguf.conftest import entries_of

    from arriero.models.gguf import GgufFile, written_type

    path = tmp_path_factory.mktemp("sample") / "m.gguf"
    entries = entries_of(random_tensors(VALUES_SMALL))
    GgufFile(VALUES_SMALL, entries, written_type("Q4_0"), tokenizer=TOKENS).write(path)
    return path


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 5200), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_change_of_the_header_reads_or_is_told(
    sample: Path, tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(sample.read_bytes())
    for place, value in changes:
        data[place] = value
    path = tmp_path / "changed.gguf"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with open_gguf(path) as model:
            model.hf_config()
            model.special_ids()
            for name in model.names():
                model.read(name)
    except ArrieroError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10, "KiB"
