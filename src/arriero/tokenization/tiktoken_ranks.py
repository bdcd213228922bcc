"""Ranks as tiktoken keeps them (base64 of the bytes, rank): byte-level BPE without a list of merges."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from arriero.errors import ArrieroError, did_you_mean
from arriero.tokenization.build import byte_level
from arriero.tokenization.byte_level import byte_of_character
from arriero.tokenization.patterns import SPLIT_PATTERNS
from arriero.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True)
class _Published:
    """What a ranks file doesn't hold: how text is split, and the special tokens."""

    pattern: str
    specials: dict[str, int]
    names: dict[str, str] = field(default_factory=lambda: {"eos_token": "<|endoftext|>"})
    bos: bool = False


def _llama3() -> dict[str, int]:
    names = [
        "<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(4)),
        "<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>",
        *(f"<|reserved_special_token_{i}|>" for i in range(5, 251)),
    ]  # fmt: skip
    return {name: 128_000 + i for i, name in enumerate(names)}


def _qwen() -> dict[str, int]:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))]
    return {name: 151_643 + i for i, name in enumerate(names)}


def _published() -> dict[int, _Published]:
    fim = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
    cl100k = {"<|endoftext|>": 100_257, **dict(zip(fim, range(100_258, 100_261), strict=True))}
    return {
        50_256: _Published("gpt2", {"<|endoftext|>": 50_256}),
        100_256: _Published("cl100k", {**cl100k, "<|endofprompt|>": 100_276}),
        128_000: _Published(
            "llama3", _llama3(), {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}, bos=True
        ),
        151_643: _Published("qwen", _qwen()),
        199_998: _Published("o200k", {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}),
    }


def parse_ranks(data: bytes) -> dict[bytes, int]:
    """Token -> rank.

    Raises:
        ArrieroError: a line is not base64 and a number, or a byte or rank is missing.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise ArrieroError(f"line {number} is not a token in base64 and its rank") from None
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ArrieroError(f"the ranks of {len(ranks):,} tokens are not the numbers from 0 on, each once")
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ArrieroError("not all 256 bytes have a rank")
    return ranks


def from_ranks(ranks: Mapping[bytes, int], pattern: str | None = None) -> Tokenizer:
    """The tokenizer of tiktoken ranks; ids are the ranks.

    The published encodings (gpt2, cl100k, llama3, qwen, o200k) are known by the number of their tokens, and bring
    their special tokens; for others ``pattern`` says how text is split, and ``<|endoftext|>`` is put after the ranks.

    Raises:
        ArrieroError: the encoding is not one of the published ones and there is no ``pattern``.
    """
    known = _published().get(len(ranks))
    if pattern is None and known is None:
        raise ArrieroError(
            f"{len(ranks):,} ranks are none of the published encodings: say how text is split"
            f" (pattern, one of {', '.join(SPLIT_PATTERNS)})"
        )
    if pattern is not None and pattern not in SPLIT_PATTERNS:
        raise ArrieroError(f"unknown pattern '{pattern}'{did_you_mean(pattern, SPLIT_PATTERNS)}")
    if known is None or pattern not in (None, known.pattern):
        known = _Published(str(pattern), {"<|endoftext|>": len(ranks)})
    character = {byte: character for character, byte in byte_of_character().items()}
    written = {token: "".join(character[byte] for byte in token) for token in ranks}
    merges = [
        (written[parts[0]], written[parts[1]])
        for token in sorted(ranks, key=ranks.__getitem__)
        if len(parts := _last_merge(token, ranks)) == 2
    ]
    vocab = {written[token]: rank for token, rank in ranks.items()}
    return byte_level(vocab, merges, known.pattern, known.specials, known.names, bos=known.bos)


def _last_merge(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """What the token is merged from: its bytes after all merges of lower rank.

    Inside a longer text it is made from the same two: a merge over its edges would have used up one of its bytes,
    so up to its own merge the steps inside are those of the token alone.
    A token that merges cannot reach (more than two parts) is only taken as a whole word.
    """
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [(ranks.get(parts[i] + parts[i + 1], len(ranks)), i) for i in range(len(parts) - 1)]
        rank, i = min(pairs)
        if rank >= ranks[token]:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts
