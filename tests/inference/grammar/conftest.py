"""Tokenizers of three kinds, compilers over them, and a model that says random things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Core

from arriero.inference.grammar.compile import GrammarCompiler
from arriero.inference.grammar.matcher import Matcher
from arriero.tokenization.config import default_config
from arriero.tokenization.load import load_tokenizer
from arriero.tokenization.special import SPECIAL_TOKENS
from arriero.tokenization.tokenizer import Tokenizer

DATA = Path(__file__).parents[2] / "data"
MERGES = [
    ('"', ":"),
    ("t", "r"),
    ("tr", "u"),
    ("tru", "e"),
    ("{", '"'),
    ("Ġ", '"'),
    ("Ã", "©"),
    ("1", "0"),
    ('"', "}"),
]


def byte_level(merges: list[tuple[str, str]]) -> Tokenizer:
    """All bytes, and a few longer tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIAL_TOKENS, *alphabet, *("".join(pair) for pair in merges)]
    core = Core(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    return Tokenizer(core.to_str(), default_config())


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    return byte_level(MERGES)


@pytest.fixture(scope="session")
def piece_tokenizer() -> Tokenizer:
    """SentencePiece with byte fallback, which puts a space before a text."""
    return load_tokenizer(DATA / "stories260k")


@pytest.fixture(scope="session", params=["bytes", "pieces"])
def compiler(
    request: pytest.FixtureRequest, byte_tokenizer: Tokenizer, piece_tokenizer: Tokenizer
) -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler({"bytes": byte_tokenizer, "pieces": piece_tokenizer}[request.param])
    yield compiler
    compiler.close()


@pytest.fixture(scope="session")
def bytes_compiler(byte_tokenizer: Tokenizer) -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler(byte_tokenizer)
    yield compiler
    compiler.close()


@pytest.fixture(scope="session")
def speak() -> Callable[..., tuple[list[int], bool]]:
    """``speak(tokenizer, matcher, seed)``: tokens drawn by random logits under a grammar, and whether it came to an
    end. Brackets, quotes, ends and the letters of the tests' patterns grow likelier, or a random text would hardly ever close."""

    def speak(
        tokenizer: Tokenizer, matcher: Matcher, seed: int, longest: int = 600
    ) -> tuple[list[int], bool]:
        rng = np.random.default_rng(seed)
        texts = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        weights = {b'"': 3, b"}": 1, b"]": 1}
        # a letter counts once: a piece of many must not outweigh the quote that ends its string
        closing = np.array(
            [sum(w * t.count(c) for c, w in weights.items()) + any(c in t for c in b"abcxy") for t in texts],
            dtype=float,
        )
        closing[[tokenizer.eos_id, tokenizer.end_of_turn_id]] = 3
        ids: list[int] = []
        for step in range(longest):
            row = rng.normal(0, 2, tokenizer.vocab_size) + closing * step / 8
            matcher.mask(row)
            assert np.isfinite(row).any(), matcher.error
            token = int(row.argmax())
            matcher.accept(token)
            if token in (tokenizer.eos_id, tokenizer.end_of_turn_id):
                return ids, True
            ids.append(token)
            if matcher.finished:
                return ids, True
        return ids, False

    return speak
