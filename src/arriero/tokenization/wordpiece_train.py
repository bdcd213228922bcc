"""Training WordPiece (BERT) with the `tokenizers` library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer as Core
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer

from arriero.errors import ArrieroError
from arriero.tokenization.bert_vocab import BERT_SPECIALS, from_vocab
from arriero.tokenization.tokenizer import Tokenizer

_MOST_CHARACTERS = 0.5
"""Share of the vocabulary that single characters may take; the rarest beyond are [UNK]."""


def train_wordpiece(
    texts: Iterable[str], vocab_size: int, *, lowercase: bool = True, min_frequency: int = 2
) -> Tokenizer:
    """A WordPiece tokenizer with BERT's normaliser and special tokens ([PAD] to [MASK], ids 0 to 4).

    Pieces are merged by frequency, as in the `tokenizers` library (Google never published BERT's trainer). Equal texts
    give an equal tokenizer: the library numbers continuing characters in the order of a hash table, so they are given
    to it in order.

    Raises:
        ArrieroError: the texts hold nothing to learn from.
    """
    normalizer = BertNormalizer(lowercase=lowercase)
    texts = [normalizer.normalize_str(text) for text in texts]
    alphabet = _alphabet(texts, int(vocab_size * _MOST_CHARACTERS / 2))
    if not alphabet:
        raise ArrieroError("the texts hold no characters to learn a WordPiece vocabulary from")
    core = Core(WordPiece(unk_token="[UNK]"))
    core.pre_tokenizer = BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, show_progress=False,
        special_tokens=[*BERT_SPECIALS, *alphabet, *(f"##{character}" for character in alphabet)],
        initial_alphabet=alphabet, limit_alphabet=len(alphabet), continuing_subword_prefix="##",
    )  # fmt: skip
    core.train_from_iterator(texts, trainer)
    vocab = core.get_vocab(with_added_tokens=False)
    return from_vocab(sorted(vocab, key=vocab.__getitem__), lowercase)


def _alphabet(texts: Iterable[str], most: int) -> list[str]:
    """The most frequent characters in the order of their code points."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    kept = [character for character in counts if not character.isspace()]
    return sorted(sorted(kept, key=lambda character: (-counts[character], character))[:most])
