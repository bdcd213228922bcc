"""Training byte-level BPE with the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tokenizers import Regex
from tokenizers import Tokenizer as Core
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import ByteLevel as ByteLevelProcessor
from tokenizers.processors import Sequence as Processors
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from arriero.tokenization.config import default_config
from arriero.tokenization.patterns import SPLIT_PATTERNS
from arriero.tokenization.special import BOS, SPECIAL_TOKENS
from arriero.tokenization.tokenizer import Tokenizer

Pattern = Literal["llama3", "gpt2"]

MIN_VOCAB = len(SPECIAL_TOKENS) + 256
"""Special tokens and all bytes: without a single merge."""


def train_bpe(texts: Iterable[str], vocab_size: int, pattern: Pattern, min_frequency: int) -> Tokenizer:
    """A tokenizer learnt from texts; it may stay below ``vocab_size`` when they have too little variety.

    All 256 bytes are in the vocabulary, so every text can be encoded and comes back unchanged.
    Equal texts in equal order give an equal tokenizer.
    """
    core = Core(BPE())
    (regex,) = SPLIT_PATTERNS[pattern]
    split = Split(Regex(regex), behavior="isolated")
    core.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    core.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    # Other libraries then put BOS before plain text by themselves, as our training documents have it.
    core.post_processor = Processors([
        ByteLevelProcessor(trim_offsets=False),
        TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B:1", special_tokens=[(BOS, core.token_to_id(BOS))]
        ),
    ])  # fmt: skip
    return Tokenizer(core.to_str(pretty=False), default_config())


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """Mean UTF-8 bytes that a token stands for; 0 when there is no text."""
    n_bytes = n_tokens = 0
    batch: list[str] = []

    def count() -> None:
        nonlocal n_bytes, n_tokens
        n_bytes += sum(len(text.encode()) for text in batch)
        n_tokens += sum(map(len, tokenizer.encode_batch(batch)))
        batch.clear()

    for text in texts:
        batch.append(text)
        if len(batch) == 256:
            count()
    count()
    return n_bytes / n_tokens if n_tokens else 0.0
