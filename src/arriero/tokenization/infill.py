"""Fill-in-the-middle as Code Llama does it (Rozière et al. 2023, arXiv 2308.12950, section 2.3; the formats are those of
Bavarian et al. 2022, arXiv 2207.14255).

    prefix, suffix, middle (PSM):  <PRE> prefix <SUF>suffix <MID>middle <EOT>
    suffix, prefix, middle (SPM):  <PRE> <SUF>suffix <MID> prefix+middle <EOT>

SentencePiece's space before a text stands before the prefix only, never before the suffix or a middle by itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from arriero.errors import ArrieroError
from arriero.tokenization.tokenizer import Tokenizer

CODE_LLAMA = ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")
_NAMES = (
    CODE_LLAMA,
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>"),
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|endoftext|>"),
)
"""Code Llama's, StarCoder's, and those of Qwen and cl100k: prefix, suffix, middle, end."""


@dataclass(frozen=True)
class InfillTokens:
    """Ids of the tokens that set the parts apart, and of the one that ends the middle."""

    prefix: int
    suffix: int
    middle: int
    end: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> InfillTokens:
        """The infilling tokens of a tokenizer.

        Raises:
            ArrieroError: it has none; ``add_special_tokens(tokenizer, CODE_LLAMA)`` gives it Code Llama's.
        """
        for names in _NAMES:
            ids = [tokenizer.token_id(name) for name in names]
            if None not in ids:
                return cls(*ids)  # type: ignore[arg-type]
        raise ArrieroError(f"the tokenizer has no infilling tokens ({' '.join(CODE_LLAMA)} or StarCoder's)")


def infill_prompt(
    tokenizer: Tokenizer, prefix: str, suffix: str, *, suffix_first: bool = False, bos: bool = True
) -> list[int]:
    """Ids of a prompt that asks for the middle. ``suffix_first``: in the order SPM instead of PSM.

    Raises:
        ArrieroError: the tokenizer has no infilling tokens.
    """
    tokens = InfillTokens.of(tokenizer)
    before, after = tokenizer.encode(prefix), tokenizer.encode_continuation(suffix)
    parts = (
        [tokens.prefix, tokens.suffix, *after, tokens.middle, *before]
        if suffix_first
        else [tokens.prefix, *before, tokens.suffix, *after, tokens.middle]
    )
    return [*([tokenizer.bos_id] if bos else []), *parts]


class Infilling:
    """Turns training documents into infilling samples.

    A document becomes one with probability ``rate``, cut at two places drawn uniformly over its characters; half of
    them are written as PSM, half as SPM. What becomes of a document depends on the seed and its number alone.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, rate: float = 0.9, suffix_first: float = 0.5, seed: int = 0
    ) -> None:
        """``rate``: share of documents that are cut; ``suffix_first``: share of these written as SPM.

        Raises:
            ArrieroError: a share is not between 0 and 1, or the tokenizer has no infilling tokens.
        """
        for name, share in {"rate": rate, "suffix_first": suffix_first}.items():
            if not 0 <= share <= 1:
                raise ArrieroError(f"{name} should be between 0 and 1, not {share}")
        self._tokenizer, self._tokens = tokenizer, InfillTokens.of(tokenizer)
        self._rate, self._suffix_first, self._seed = rate, suffix_first, seed

    def sample(self, document: str, number: int) -> list[int]:
        """Ids of document ``number``, without BOS and EOS: an infilling sample, or the plain text."""
        drawn = random.Random(f"{self._seed}:{number}")
        if drawn.random() >= self._rate:
            return self._tokenizer.encode(document)
        suffix_first = drawn.random() < self._suffix_first
        first, second = sorted(drawn.randint(0, len(document)) for _ in range(2))
        prefix, middle, suffix = document[:first], document[first:second], document[second:]
        return [*self._parts(prefix, middle, suffix, suffix_first), self._tokens.end]

    def _parts(self, prefix: str, middle: str, suffix: str, suffix_first: bool) -> Iterator[int]:
        encode, tokens = self._tokenizer, self._tokens
        yield tokens.prefix
        if suffix_first:
            yield tokens.suffix
            yield from encode.encode_continuation(suffix)
            yield tokens.middle
            yield from encode.encode(prefix + middle)
            return
        yield from encode.encode(prefix)
        yield tokens.suffix
        yield from encode.encode_continuation(suffix)
        yield tokens.middle
        yield from encode.encode_continuation(middle)
