"""Training byte-level BPE, with the `tokenizers` library or with rustbpe."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, Literal

from tokenizers import Regex
from tokenizers import Tokenizer as Core
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import ByteLevel as ByteLevelProcessor
from tokenizers.processors import Sequence as Processors
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from arriero.errors import ArrieroError
from arriero.tokenization.byte_level import byte_of_character
from arriero.tokenization.config import default_config
from arriero.tokenization.fast import last_join
from arriero.tokenization.patterns import SPLIT_PATTERNS
from arriero.tokenization.special import BOS, SPECIAL_TOKENS
from arriero.tokenization.tokenizer import Tokenizer

Pattern = Literal["llama3", "gpt2"]

MIN_VOCAB = len(SPECIAL_TOKENS) + 256
"""Special tokens and all bytes: without a single merge."""
_PIECE = 100_000
"""Characters that rustbpe gets at a time: its engine overflows its stack at runs not much longer."""
_BUFFERED = 512
"""Pieces that rustbpe counts at a time."""


def train_bpe(texts: Iterable[str], vocab_size: int, pattern: Pattern, min_frequency: int) -> Tokenizer:
    """A tokenizer learnt from texts; it may stay below ``vocab_size`` when they have too little variety.

    All 256 bytes are in the vocabulary, so every text can be encoded and comes back unchanged.
    Equal texts in equal order give an equal tokenizer.
    """
    core = _byte_level(BPE(), pattern)
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return _finished(core)


def train_bpe_fast(texts: Iterable[str], vocab_size: int, pattern: Pattern) -> Tokenizer:
    """As :func:`train_bpe` by rustbpe (karpathy/rustbpe), which counts and merges faster.

    Where pairs are equally frequent it takes another one first, and it merges pairs that occur once. So the tokenizer
    is another one, that cuts text into as many tokens; equal texts in equal order give an equal one.

    Raises:
        ArrieroError: the package rustbpe is not installed.
    """
    trainer = _rustbpe()
    pieces = (text[at : at + _PIECE] for text in texts for at in range(0, len(text), _PIECE))
    size = vocab_size - len(SPECIAL_TOKENS)
    trainer.train_from_iterator(pieces, size, buffer_size=_BUFFERED, pattern=SPLIT_PATTERNS[pattern][0])
    written = {byte: character for character, byte in byte_of_character().items()}
    order: dict[bytes, int] = {}
    merges: list[tuple[str, str]] = []
    for data, rank in sorted(trainer.get_mergeable_ranks(), key=lambda item: item[1]):
        token = bytes(data)
        if len(token) > 1 and token not in order and (parts := last_join(token, order)):
            order[token] = rank
            left, right = ("".join(written[byte] for byte in part) for part in parts)
            merges.append((left, right))
    names = [*SPECIAL_TOKENS, *sorted(ByteLevel.alphabet()), *(left + right for left, right in merges)]
    core = _byte_level(BPE({name: id for id, name in enumerate(names)}, merges), pattern)
    core.add_special_tokens(list(SPECIAL_TOKENS))
    return _finished(core)


def _rustbpe() -> Any:
    try:
        return importlib.import_module("rustbpe").Tokenizer()
    except ImportError:
        raise ArrieroError(
            "trainer fast needs the package rustbpe: install it with pip install 'arriero[data]', or set trainer: exact"
        ) from None


def _byte_level(model: BPE, pattern: Pattern) -> Core:
    core = Core(model)
    (regex,) = SPLIT_PATTERNS[pattern]
    split = Split(Regex(regex), behavior="isolated")
    core.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    core.decoder = ByteLevelDecoder()
    return core


def _finished(core: Core) -> Tokenizer:
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
