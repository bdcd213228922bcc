"""Tokenizers in every format that models come with, known by their content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arriero.errors import ArrieroError
from arriero.tokenization.bert_vocab import from_vocab
from arriero.tokenization.build import byte_level
from arriero.tokenization.config import read_config
from arriero.tokenization.from_gguf import from_gguf_metadata
from arriero.tokenization.llama2c import parse_bin
from arriero.tokenization.sentencepiece_model import parse_model, to_tokenizer
from arriero.tokenization.special import USUAL_NAMES
from arriero.tokenization.tiktoken_ranks import from_ranks, parse_ranks
from arriero.tokenization.tokenizer import TOKENIZER_FILE, Tokenizer

_IN_FOLDERS = (
    "tokenizer.json", "tokenizer.model", "*.model", "*.model.v*", "*.tiktoken", "vocab.json", "encoder.json",
    "vocab.txt", "tokenizer.bin", "tok*.bin", "*.gguf",
)  # fmt: skip
"""What a tokenizer's file is called, the first match counts: weights lie in the same folder, so not every file is tried."""
_GGUF = b"GGUF"
_LARGEST = 1 << 28
_MERGES = ("vocab.bpe", "merges.txt")
_VOCABULARIES = ("encoder.json", "vocab.json")
_OF_CONFIG = (
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "cls_token",
    "sep_token",
    "mask_token",
    "chat_template",
)


def load_tokenizer(path: Path, *, pattern: str | None = None) -> Tokenizer:
    """The tokenizer of a file or of a model's folder, whatever its format.

    Known: tokenizer.json, SentencePiece `.model`, tiktoken ranks, GPT-2's encoder.json with vocab.bpe (vocab.json
    with merges.txt), BERT's vocab.txt, llama2.c's `.bin`, GGUF. The special tokens and the chat template that a
    tokenizer_config.json beside it names are taken over. ``save`` writes any of them as tokenizer.json.

    Args:
        pattern: how text is split before merging (a name of ``SPLIT_PATTERNS``), for tiktoken ranks of no published encoding.

    Raises:
        ArrieroError: there is none, it is damaged, or its format is not known.
    """
    path = Path(path)
    file = _file_in(path) if path.is_dir() else path
    if file.name == TOKENIZER_FILE:
        return Tokenizer.read_json(file)
    if not file.is_file():
        raise ArrieroError(f"there is no tokenizer at {path}")
    with file.open("rb") as opened:
        if opened.read(4) == _GGUF:
            return _read_gguf(file)
    if file.stat().st_size > _LARGEST:
        raise ArrieroError(f"{file} is no tokenizer: it is larger than any")
    data = file.read_bytes()
    for recognises, read in _FORMATS:
        if recognises(data):
            try:
                return _with_config_beside(read(file, data, pattern), file)
            except ArrieroError as error:
                raise ArrieroError(f"{file}: {error}") from None
    raise ArrieroError(
        f"{file} is no tokenizer: it should be tokenizer.json, a SentencePiece .model, tiktoken ranks, encoder.json with"
        " vocab.bpe, BERT's vocab.txt, a llama2.c .bin or a GGUF file"
    )


def _read_gguf(file: Path) -> Tokenizer:
    from arriero.models.gguf.container import Container

    container = Container(file)
    try:
        return from_gguf_metadata(container.metadata)
    except ArrieroError as error:
        raise ArrieroError(f"{file}: {error}") from None
    finally:
        container.close()


def _file_in(folder: Path) -> Path:
    for name in _IN_FOLDERS:
        found = sorted(file for file in folder.glob(name) if file.is_file())
        if found:
            return found[0]
    raise ArrieroError(
        f"{folder} holds no tokenizer: it has no {TOKENIZER_FILE} and none of the other formats' files"
    )


def _with_config_beside(tokenizer: Tokenizer, file: Path) -> Tokenizer:
    """What the file itself can't say: names of special tokens and the chat template."""
    config = read_config(file.parent)
    named = {key: config[key] for key in _OF_CONFIG if config.get(key)}
    return tokenizer.with_config(**named) if named else tokenizer


# ---------------------------------------------------------------- the formats

Reader = Callable[[Path, bytes, "str | None"], Tokenizer]


def _is_json(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{"


def _read_json(file: Path, data: bytes, pattern: str | None) -> Tokenizer:
    try:
        content = json.loads(data)
    except ValueError:
        raise ArrieroError("it is not JSON") from None
    if isinstance(content.get("model"), dict):
        return Tokenizer.read_json(file)
    if not content or not all(isinstance(id, int) for id in content.values()):
        raise ArrieroError("it is no tokenizer: it should be tokenizer.json, or pieces with their ids")
    return _gpt2(content, _beside(file, _MERGES).read_bytes())


def _is_merges(data: bytes) -> bool:
    return data.startswith(b"#version:")


def _read_merges(file: Path, data: bytes, pattern: str | None) -> Tokenizer:
    return _gpt2(json.loads(_beside(file, _VOCABULARIES).read_bytes()), data)


def _beside(file: Path, names: tuple[str, ...]) -> Path:
    found = next((file.with_name(name) for name in names if file.with_name(name).is_file()), None)
    if found is None:
        raise ArrieroError(f"the other half of the tokenizer is missing beside it: {' or '.join(names)}")
    return found


def _gpt2(vocab: dict[str, int], merges: bytes) -> Tokenizer:
    lines = [line for line in merges.decode("utf-8").split("\n") if line and not line.startswith("#version:")]
    pairs = [tuple(line.split(" ")) for line in lines]
    if any(len(pair) != 2 for pair in pairs):
        raise ArrieroError("a line of the merges is not two pieces")
    found = {key: next((name for name in usual if name in vocab), None) for key, usual in USUAL_NAMES.items()}
    names = {key: name for key, name in found.items() if name is not None}
    specials = {name: vocab[name] for name in names.values()}
    return byte_level(vocab, pairs, "gpt2", specials, names)  # type: ignore[arg-type]


def _is_ranks(data: bytes) -> bool:
    token, _, rank = data.split(b"\n", 1)[0].strip().partition(b" ")
    return rank.isdigit() and len(token) % 4 == 0 and bool(token)


def _read_ranks(file: Path, data: bytes, pattern: str | None) -> Tokenizer:
    return from_ranks(parse_ranks(data), pattern)


def _is_vocab(data: bytes) -> bool:
    return b"[UNK]" in data and b"[CLS]" in data and b"\x00" not in data


def _read_vocab(file: Path, data: bytes, pattern: str | None) -> Tokenizer:
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ArrieroError(f"it is not UTF-8 (byte {error.start})") from None
    lowercase: Any = read_config(file.parent).get("do_lower_case")
    return from_vocab(text.removesuffix("\n").split("\n"), lowercase if isinstance(lowercase, bool) else None)


def _accepts(parse: Callable[[bytes], object]) -> Callable[[bytes], bool]:
    def recognises(data: bytes) -> bool:
        try:
            parse(data)
        except ArrieroError:
            return False
        return True

    return recognises


_FORMATS: tuple[tuple[Callable[[bytes], bool], Reader], ...] = (
    (_is_json, _read_json),
    (_is_merges, _read_merges),
    (_is_ranks, _read_ranks),
    (_is_vocab, _read_vocab),
    (_accepts(parse_model), lambda file, data, pattern: to_tokenizer(parse_model(data))),
    (_accepts(parse_bin), lambda file, data, pattern: to_tokenizer(parse_bin(data))),
)
