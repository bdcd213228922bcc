"""The stage ``tokenizer``: learn a byte-level BPE vocabulary from a corpus."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from arriero.artifacts import Artifact
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.errors import ArrieroError, Interrupted
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
from arriero.tokenization.texts import iter_texts

_SCORED_BYTES = 4_000_000
"""Text on which bytes per token are counted, of each split."""
_MEMORY_PER_BYTE = 8.0
"""Resident bytes that a byte of training text takes at the peak (word counts, pairs): 7 to 12 on 1 to 20 MB of English."""


class TokenizerSettings(StageSettings):
    """Settings of the stage ``tokenizer``."""

    vocab_size: int = Field(
        default=4096, ge=261, le=1_000_000, description="ids, the 5 special ones and 256 bytes included"
    )
    pre_tokenizer: Literal["llama3", "gpt2"] = Field(
        default="llama3", description="pattern that cuts text before merging"
    )
    max_bytes: int = Field(
        default=100_000_000, ge=1, description="UTF-8 bytes of text to learn from, sampled by document"
    )
    min_frequency: int = Field(default=2, ge=1, description="a pair must occur this often to be merged")


@register
class TrainTokenizer(Stage[TokenizerSettings]):
    """Learn a byte-level BPE tokenizer from the train split of a corpus.

    All 256 bytes are in it, so every text can be encoded and comes back unchanged. It holds the special tokens for
    the ends of documents and of turns, and a ChatML chat template, and loads in transformers.
    """

    kind = "tokenizer"
    version = 1
    makes = "tokenizer"
    inputs = {"corpus": Input("corpus", "text to learn from")}
    help = "learn a byte-level BPE tokenizer from a corpus"
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
            scored = sum(min(split.bytes, _SCORED_BYTES) for split in corpus.splits.values())
            expected = 0.1 + taken / learning.per_s + scored / scoring.per_s
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
        from arriero.tokenization.bpe import MIN_VOCAB, bytes_per_token, train_bpe

        corpus: Artifact = inputs["corpus"]
        spec: CorpusSpec = open_input(corpus, CorpusSpec)
        if not spec.splits.get("train") or not spec.splits["train"].documents:
            raise ArrieroError(f"{corpus.path} has no training text to learn a tokenizer from")
        started = time.monotonic()
        sample = _Sample(corpus.path, spec.splits["train"].bytes, settings.max_bytes, context)
        tokenizer = train_bpe(sample, settings.vocab_size, settings.pre_tokenizer, settings.min_frequency)
        seconds = time.monotonic() - started
        if sample.bytes == 0:
            raise ArrieroError(
                f"the train split of {corpus.path} holds no text; a tokenizer cannot be learnt from it"
            )
        tokenizer.save(context.folder)
        ratios = {
            split: bytes_per_token(tokenizer, _some(iter_texts(corpus.path, split), size.bytes))
            for split, size in spec.splits.items()
        }
        if tokenizer.vocab_size < settings.vocab_size:
            context.say(
                f"the text has too little variety for {settings.vocab_size:,} tokens: the vocabulary has"
                f" {tokenizer.vocab_size:,}"
            )
        facts = {
            "vocab_size_wanted": settings.vocab_size,
            "merges": tokenizer.vocab_size - MIN_VOCAB,
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


def expected_bytes_per_token(vocab_size: int) -> float:
    """Rule of thumb for English prose: 2.55 bytes at 1,000 ids and 0.46 more with every doubling, at most 4.8.

    Fitted to byte-level BPE of 1,024 to 8,192 ids on 7 MB of mixed English (stories, encyclopaedia, web pages, novels).
    """
    return max(1.0, min(4.8, 2.55 + 0.46 * math.log2(vocab_size / 1000)))


class _Sample:
    """The training texts up to a number of bytes: documents chosen by a hash of their text, so that the choice
    depends neither on their order nor on a seed. Counts what it gave out."""

    def __init__(self, folder: Path, total_bytes: int, max_bytes: int, context: Context) -> None:
        self._folder, self._total, self._max, self._context = folder, total_bytes, max_bytes, context
        self.documents = self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        share = min(1.0, self._max / max(self._total, 1))
        for text in iter_texts(self._folder, "train"):
            size = len(text.encode())
            if share < 1 and (not _drawn(text, share) or self.bytes + size > self._max):
                continue
            if self._context.stop_requested():
                raise Interrupted(
                    "stopped while reading the text; nothing is lost, it starts over in seconds"
                )
            self.documents += 1
            self.bytes += size
            self._context.progress(self.bytes, min(self._total, self._max), "B")
            yield text


def _drawn(text: str, share: float) -> bool:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") < share * 2**64


def _some(texts: Iterable[str], total_bytes: int) -> Iterator[str]:
    """About _SCORED_BYTES of the texts, from all over them."""
    share = min(1.0, _SCORED_BYTES / max(total_bytes, 1))
    return (text for text in texts if share == 1 or _drawn(text, share))
