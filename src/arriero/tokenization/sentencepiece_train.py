"""Training SentencePiece tokenizers (BPE as Llama 1 and 2, unigram) with the `sentencepiece` library.

That library and not the trainer of `tokenizers`: it is what the published tokenizers were made with, scores its pieces
(so the result is a `.model` in all but name), and its unigram training gives the same result every time.
Only training needs it; the tokenizer that comes out is a tokenizer.json like any other.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from arriero.errors import ArrieroError
from arriero.tokenization.sentencepiece_model import parse_model, to_tokenizer
from arriero.tokenization.special import CHATML_TEMPLATE, PAD, TURN_END, TURN_START
from arriero.tokenization.tokenizer import Tokenizer

_LONGEST_LINE = 100_000
_THREADS = 4
"""Fixed, because the sums of unigram training depend on it: the same on every machine."""
_COVERAGE = 0.99995
"""Llama's share of the characters of the text that become pieces; the rest is written in bytes. Lower where these
characters would take more than half of the vocabulary."""
_FIXED_PIECES = 6 + 256


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, model_type: Literal["bpe", "unigram"] = "bpe"
) -> Tokenizer:
    """A SentencePiece tokenizer with Llama's settings: digits one by one, unknown characters as their UTF-8 bytes,
    no normalisation, one space before the text (Touvron et al. 2023, arXiv 2302.13971, section 2.1).

    <unk>, <s>, </s> have the ids 0 to 2, as in Llama; padding and the marks of turns follow, then the 256 bytes.
    Equal texts in equal order give an equal tokenizer; it may stay below ``vocab_size`` for little text.

    Raises:
        ArrieroError: `sentencepiece` is not installed, or ``vocab_size`` is too small for the text's characters.
    """
    return to_tokenizer(parse_model(train_model(texts, vocab_size, model_type))).with_config(
        pad_token=PAD, chat_template=CHATML_TEMPLATE
    )


def train_model(texts: Iterable[str], vocab_size: int, model_type: Literal["bpe", "unigram"]) -> bytes:
    """The `.model` that :func:`train_sentencepiece` makes its tokenizer of."""
    try:
        from sentencepiece import SentencePieceTrainer
    except ImportError:
        raise ArrieroError(
            f"training a SentencePiece tokenizer ({model_type}) needs the package sentencepiece:"
            " pip install sentencepiece"
        ) from None
    written, lines = io.BytesIO(), _of_common_characters(list(_lines(texts)), vocab_size)
    if not lines:
        raise ArrieroError("the texts hold no characters to learn a SentencePiece vocabulary from")
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=written, model_type=model_type, vocab_size=vocab_size,
            hard_vocab_limit=False, character_coverage=1.0, byte_fallback=True, split_digits=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
            control_symbols=[PAD, TURN_START, TURN_END], max_sentence_length=4 * _LONGEST_LINE,
            num_threads=_THREADS, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise ArrieroError(_reason(str(error), vocab_size)) from None
    return written.getvalue()


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Line by line: a newline is no piece (it is written as its byte), and the library reads lines."""
    for text in texts:
        for line in text.split("\n"):
            for start in range(0, len(line), _LONGEST_LINE):
                yield line[start : start + _LONGEST_LINE]


def _of_common_characters(lines: Sequence[str], vocab_size: int) -> list[str]:
    """The lines cut at rare characters, which get no piece. The library's own ``character_coverage`` does the same, but
    can't go below 0.98, which is too many characters for a small vocabulary of Chinese."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    room, wanted = max(1, (vocab_size - _FIXED_PIECES) // 2), _COVERAGE * counts.total()
    covered, cut = 0, {}
    for place, (character, count) in enumerate(sorted(counts.items(), key=lambda item: (-item[1], item[0]))):
        if place >= room or covered >= wanted:
            cut[ord(character)] = "\n"
        covered += count
    return [part for line in lines for part in line.translate(cut).split("\n") if part]


def _reason(message: str, vocab_size: int) -> str:
    if "required_chars" in message or "smaller than" in message:
        return (
            f"vocab_size {vocab_size:,} is too small for SentencePiece: {_FIXED_PIECES} pieces are special tokens and"
            " bytes, and common characters need one each"
        )
    last = message.strip().splitlines()[-1] if message.strip() else "no reason given"
    return f"sentencepiece cannot learn from this text: {last}"
