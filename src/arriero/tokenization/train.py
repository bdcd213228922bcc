"""The stage ``tokenizer``: learn a vocabulary from a corpus."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from arriero.artifacts import Artifact
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.errors import ArrieroError
from arriero.stage import (
    Context,
    CorpusSpec,
    Input,
    Inputs,
    Outcome,
    Plan,
    Specs,
    Stage,
    StageSettings,
    TokenizerSpec,
    open_input,
    register,
)
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.sampling import SCORED_BYTES, Sample, some_texts

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

Algorithm = Literal["bpe", "sentencepiece", "wordpiece", "unigram"]
_MEMORY_PER_BYTE = 8.0
"""Resident bytes that a byte of training text takes at the peak (word counts, pairs): 7 to 12 on 1 to 20 MB of English."""
_MOST_FAST_BYTES = 8_000_000_000
"""A pair may not occur more than 2^31 times in rustbpe, and every fourth byte or so begins the commonest one at most."""
_SLOWER: dict[Algorithm, float] = {"bpe": 1.0, "sentencepiece": 0.8, "wordpiece": 1.2, "unigram": 4.2}
"""Time to learn as a multiple of byte-level BPE's, which `arriero calibrate` measures (2.4 MB of English)."""
_READ_BY: dict[str, tuple[Algorithm, ...]] = {
    "pre_tokenizer": ("bpe",),
    "min_frequency": ("bpe", "wordpiece"),
    "trainer": ("bpe",),
    "lowercase": ("wordpiece",),
}


class TokenizerSettings(StageSettings):
    """Settings of the stage ``tokenizer``."""

    algorithm: Algorithm = Field(
        default="bpe",
        description="byte-level BPE (GPT, Llama 3), SentencePiece BPE (Llama 2), WordPiece (BERT) or unigram",
    )
    vocab_size: int = Field(
        default=4096, ge=261, le=1_000_000, description="ids, the special ones and bytes included"
    )
    pre_tokenizer: Literal["llama3", "gpt2"] = Field(
        default="llama3", description="pattern that cuts text before merging (bpe)"
    )
    max_bytes: int = Field(
        default=100_000_000, ge=1, description="UTF-8 bytes of text to learn from, sampled by document"
    )
    min_frequency: int = Field(
        default=2, ge=1, description="a pair must occur this often to be merged (bpe, wordpiece)"
    )
    trainer: Literal["exact", "fast"] = Field(
        default="exact",
        description="exact: the tokenizers library; fast: rustbpe, as good but another tokenizer, which merges pairs"
        " down to those that occur once (bpe)",
    )
    lowercase: bool = Field(default=True, description="lower-case the text and take off accents (wordpiece)")

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> TokenizerSettings:
        for name, readers in _READ_BY.items():
            if self.algorithm not in readers and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is not for algorithm {self.algorithm}, only for {' and '.join(readers)}"
                )
        if self.trainer == "fast" and self.min_frequency != type(self).model_fields["min_frequency"].default:
            raise ValueError("min_frequency is not for trainer fast, only for exact")
        if self.trainer == "fast" and self.max_bytes > _MOST_FAST_BYTES:
            raise ValueError(
                f"trainer fast counts in 32 bits: max_bytes should be at most {_MOST_FAST_BYTES:,}"
            )
        return self


@register
class TrainTokenizer(Stage[TokenizerSettings]):
    """Learn a tokenizer from the train split of a corpus.

    Byte-level BPE (the default) and the two SentencePiece kinds hold all 256 bytes, so every text can be encoded and
    comes back unchanged. They hold the special tokens for the ends of documents and of turns, and a ChatML chat
    template. WordPiece is BERT's: text loses its spaces' number and, lower-cased, its capitals. All load in transformers.
    """

    kind = "tokenizer"
    version = 1
    makes = "tokenizer"
    inputs = {"corpus": Input("corpus", "text to learn from")}
    help = "learn a tokenizer from a corpus (BPE, SentencePiece, WordPiece or unigram)"
    Settings = TokenizerSettings

    def plan(self, settings: TokenizerSettings, specs: Specs, device: DeviceProfile) -> Plan:
        corpus: CorpusSpec = specs["corpus"]
        taken = min(corpus.splits["train"].bytes, settings.max_bytes)
        ratio = expected_bytes_per_token(settings.vocab_size)
        spec = TokenizerSpec(vocab_size=settings.vocab_size, bytes_per_token=ratio)
        learning, scoring = device.rate("tokenizer.bytes_per_s"), device.rate("tokenize.bytes_per_s")
        seconds = Quantity.unknown(
            "s", "no rate tokenizer.bytes_per_s or tokenize.bytes_per_s in the profile"
        )
        if learning and scoring:
            scored = sum(min(split.bytes, SCORED_BYTES) for split in corpus.splits.values())
            expected = 0.1 + _SLOWER[settings.algorithm] * taken / learning.per_s + scored / scoring.per_s
            seconds = Quantity.band(expected, max(learning.spread, 0.35), "s", "modelled", "measured rates")
        memory = device.process_bytes + _MEMORY_PER_BYTE * taken
        peak = Quantity.band(
            memory, 0.4, "B", "modelled", f"process and {_MEMORY_PER_BYTE:g} B per byte of text"
        )
        notes = [
            f"{ratio:.2f} bytes per token is a rule of thumb for English prose (±15 %);"
            " text in other scripts, code and small corpora lie outside of it"
        ]
        flops = Quantity.exact(0.0, "FLOP", "modelled", "no floating-point work")
        return Plan(spec, Estimate(seconds=seconds, peak_memory=peak, flops=flops), notes)

    def run(self, settings: TokenizerSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.tokenization.bpe import bytes_per_token

        corpus: Artifact = inputs["corpus"]
        spec: CorpusSpec = open_input(corpus, CorpusSpec)
        if not spec.splits.get("train") or not spec.splits["train"].documents:
            raise ArrieroError(f"{corpus.path} has no training text to learn a tokenizer from")
        if not spec.splits["train"].bytes:
            raise ArrieroError(
                f"the train split of {corpus.path} holds no text; a tokenizer cannot be learnt from it"
            )
        started = time.monotonic()
        sample = Sample(corpus.path, spec.splits["train"].bytes, settings.max_bytes, context)
        tokenizer, merges = _learn(sample, settings)
        seconds = time.monotonic() - started
        tokenizer.save(context.folder)
        ratios = {
            split: bytes_per_token(tokenizer, some_texts(corpus.path, split, size.bytes))
            for split, size in spec.splits.items()
        }
        if tokenizer.vocab_size < settings.vocab_size:
            context.say(
                f"the text has too little variety for {settings.vocab_size:,} tokens: the vocabulary has"
                f" {tokenizer.vocab_size:,}"
            )
        facts = {
            "vocab_size_wanted": settings.vocab_size,
            "algorithm": settings.algorithm,
            "merges": merges,
            "bytes_per_token": {split: round(ratio, 4) for split, ratio in ratios.items()},
            "documents_read": sample.documents,
            "bytes_read": sample.bytes,
            "seconds_training": round(seconds, 3),
            "fingerprint": tokenizer.fingerprint,
        }
        return Outcome(TokenizerSpec(vocab_size=tokenizer.vocab_size, bytes_per_token=ratios["train"]), facts)

    def probe(self) -> dict[str, Rate]:
        from arriero.tokenization.bpe import train_bpe

        texts = sample_texts(1_000_000)
        n_bytes = sum(map(len, texts))
        started = time.perf_counter()
        train_bpe(texts, 4096, "llama3", 2)
        per_s = n_bytes / (time.perf_counter() - started)
        return {"tokenizer.bytes_per_s": Rate(per_s=per_s, spread=0.4, unit="B")}


def _learn(texts: Iterable[str], settings: TokenizerSettings) -> tuple[Tokenizer, int]:
    """The tokenizer, and how many of its pieces were learnt (neither special tokens, bytes nor characters)."""
    match settings.algorithm:
        case "bpe":
            from arriero.tokenization.bpe import MIN_VOCAB, train_bpe, train_bpe_fast

            if settings.trainer == "fast":
                tokenizer = train_bpe_fast(texts, settings.vocab_size, settings.pre_tokenizer)
                return tokenizer, tokenizer.vocab_size - MIN_VOCAB
            tokenizer = train_bpe(texts, settings.vocab_size, settings.pre_tokenizer, settings.min_frequency)
            return tokenizer, tokenizer.vocab_size - MIN_VOCAB
        case "sentencepiece" | "unigram":
            from arriero.tokenization.sentencepiece_train import train_sentencepiece

            kind = "bpe" if settings.algorithm == "sentencepiece" else "unigram"
            tokenizer = train_sentencepiece(texts, settings.vocab_size, kind)  # type: ignore[arg-type]
        case "wordpiece":
            from arriero.tokenization.wordpiece_train import train_wordpiece

            tokenizer = train_wordpiece(
                texts, settings.vocab_size, lowercase=settings.lowercase, min_frequency=settings.min_frequency
            )
    special = set(tokenizer.special_ids.values())
    pieces = (tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size) if id not in special)
    return tokenizer, sum(len(piece.decode("utf-8", "replace").strip()) > 1 for piece in pieces)


def expected_bytes_per_token(vocab_size: int) -> float:
    """Rule of thumb for English prose: 2.55 bytes at 1,000 ids and 0.46 more with every doubling, at most 4.8.

    Fitted to byte-level BPE of 1,024 to 8,192 ids on 7 MB of mixed English (stories, encyclopaedia, web pages, novels).
    """
    return max(1.0, min(4.8, 2.55 + 0.46 * math.log2(vocab_size / 1000)))
