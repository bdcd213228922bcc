"""Adding pieces learnt from new text to a BPE tokenizer; the ids of the old pieces stay.

The old tokenizer cuts the new text into its pieces, and training goes on from there: the new merges come after all the
old ones, so the old pieces of a text are found first, as before, and then merged further. (Chinese LLaMA, arXiv
2304.08177, trained a second vocabulary apart and put both together; continuing instead makes every new piece reachable.)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as Core
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import CharDelimiterSplit
from tokenizers.trainers import BpeTrainer

from arriero.errors import ArrieroError
from arriero.tokenization.build import added_token
from arriero.tokenization.pieces import SPACE
from arriero.tokenization.scripts import script_of
from arriero.tokenization.tokenizer import Tokenizer

_FIRST_PRIVATE = 0x10000
"""An old piece is handed to the trainer as one character: this code point plus its id."""
_LONGEST = 16
"""Old pieces in a new one at most, as long as SentencePiece makes its pieces."""
_COVERAGE = 0.9995
"""Share of the characters of the new text that become pieces by themselves (the value for Chinese in SentencePiece)."""
_BATCH = 256


def extend(tokenizer: Tokenizer, texts: Iterable[str], pieces: int, min_frequency: int = 2) -> Tokenizer:
    """The tokenizer with up to ``pieces`` more, learnt from ``texts``; equal texts give an equal tokenizer.

    New ids follow the old ones. With SentencePiece-type BPE, frequent characters that it has only as bytes come first; they
    are half of the new pieces at most.

    Raises:
        ArrieroError: the tokenizer is no BPE, or has no pieces for bytes and none for characters.
    """
    _check(tokenizer, tokenizer.definition)
    texts = list(texts)
    characters: list[str] = []
    if tokenizer.pieces.kind == "metaspace":
        characters = _new_characters(tokenizer, texts, min_frequency)
    taken = min(len(characters), pieces // 2)
    while True:
        extended = _extended(tokenizer, texts, characters[:taken], pieces, min_frequency)
        missing = tokenizer.vocab_size + pieces - extended.vocab_size
        if not missing or taken == len(characters):
            return extended
        taken = min(len(characters), taken + missing)  # there were not enough merges


def _extended(
    tokenizer: Tokenizer, texts: Sequence[str], characters: Sequence[str], pieces: int, min_frequency: int
) -> Tokenizer:
    """With these characters and the merges that follow."""
    definition = tokenizer.definition
    vocab: dict[str, int] = definition["model"]["vocab"]
    for token in definition["added_tokens"]:  # with their ids, so that the new pieces are numbered after them
        vocab.setdefault(token["content"], token["id"])
    size, wanted = tokenizer.vocab_size, tokenizer.vocab_size + pieces
    for character in characters:
        vocab[character] = size
        size += 1
    cutting = _made(definition, tokenizer)
    for left, right in _learn(_words(cutting, texts), cutting, wanted - size, min_frequency):
        if left + right not in vocab:
            if size == wanted:
                break
            vocab[left + right] = size
            size += 1
        definition["model"]["merges"].append([left, right])
    return _made(definition, tokenizer)


def add_special_tokens(tokenizer: Tokenizer, names: Sequence[str]) -> Tokenizer:
    """The tokenizer with these special tokens after all its ids; those that it has stay where they are."""
    definition = tokenizer.definition
    _check(tokenizer, definition)
    known = {token["content"] for token in definition["added_tokens"]}
    size = tokenizer.vocab_size
    for name in names:
        if name in known:
            continue
        if name in definition["model"]["vocab"]:
            raise ArrieroError(
                f"'{name}' is an ordinary piece of the tokenizer; it cannot become a special token"
            )
        definition["model"]["vocab"][name] = size
        definition["added_tokens"].append(added_token(name, size, special=True))
        size += 1
    return _made(definition, tokenizer)


def old_pieces(old: Tokenizer, new: Tokenizer) -> dict[int, list[int]]:
    """The ids that each piece of ``new`` that ``old`` does not have is written with in ``old``.

    Raises:
        ArrieroError: ``new`` does not begin with the pieces of ``old``.
    """
    before, after = old.definition["model"]["vocab"], new.definition["model"]["vocab"]
    if any(after.get(piece) != id for piece, id in before.items()):
        raise ArrieroError("the new tokenizer does not begin with the pieces of the old one")
    model = Core.from_str(json.dumps(old.definition)).model
    added = {piece: id for piece, id in after.items() if id >= old.vocab_size}
    return {
        id: [token.id for token in model.tokenize(piece)] for piece, id in sorted(added.items(), key=_second)
    }


def _second(item: tuple[str, int]) -> int:
    return item[1]


def _check(tokenizer: Tokenizer, definition: dict[str, Any]) -> None:
    kind = definition["model"].get("type")
    if kind != "BPE" or tokenizer.pieces.kind not in ("byte_level", "metaspace"):
        raise ArrieroError(
            f"only byte-level and SentencePiece-type BPE can be extended, this tokenizer is {kind}"
        )
    if definition["model"].get("dropout"):
        raise ArrieroError(
            "a tokenizer with BPE dropout gives other pieces every time; it cannot be extended"
        )


def _made(definition: dict[str, Any], like: Tokenizer) -> Tokenizer:
    core = Core.from_str(json.dumps(definition, ensure_ascii=False))
    return Tokenizer(core.to_str(pretty=False), like.config)


def _new_characters(tokenizer: Tokenizer, texts: Sequence[str], min_frequency: int) -> list[str]:
    """Characters without a piece, the most frequent first."""
    definition = tokenizer.definition
    vocab = definition["model"]["vocab"]
    normalizer = Core.from_str(json.dumps(definition)).normalizer
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text) if normalizer else text)
    room = (1 - _COVERAGE) * counts.total()  # characters that may stay without a piece, the rarest
    chosen: list[tuple[int, str]] = []
    for character, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        room -= count
        if room < 0 and count >= min_frequency and character not in vocab and character not in "\n\r":
            chosen.append((-count, character))
    return [character for _, character in sorted(chosen)]


def _words(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[str]:
    """The texts as the tokenizer cuts them, one string a text: a character for every piece, a space between words."""
    pieces = {id: piece for piece, id in tokenizer.definition["model"]["vocab"].items()}
    split = _by_word_ids if tokenizer.pieces.kind == "byte_level" else _by_spaces_and_scripts
    for start in range(0, len(texts), _BATCH):
        for encoding in tokenizer.encode_pieces_apart(texts[start : start + _BATCH]):
            words = split(encoding, pieces)
            yield " ".join("".join(chr(_FIRST_PRIVATE + id) for id in word) for word in words)


def _by_word_ids(encoding: Encoding, pieces: dict[int, str]) -> Iterator[list[int]]:
    """Words as the pre-tokenizer has them: no merge crosses their edges."""
    pairs = zip(encoding.word_ids, encoding.ids, strict=True)
    for _, group in groupby(pairs, key=lambda pair: pair[0]):
        yield [id for _, id in group]


def _by_spaces_and_scripts(encoding: Encoding, pieces: dict[int, str]) -> Iterator[list[int]]:
    """Words as SentencePiece has them: a space begins one, a change of script too; digits and bytes stand alone."""
    word: list[int] = []
    last = ""
    for id in encoding.ids:
        piece = pieces.get(id, "")
        kind = _kind(piece)
        if word and (kind != last or not kind or piece.startswith(SPACE)):
            yield word
            word = []
        word.append(id)
        last = kind
    if word:
        yield word


def _kind(piece: str) -> str:
    """Script of a piece that may grow; empty for one that stays alone."""
    character = piece.lstrip(SPACE)[-1:]
    if not character or character.isdigit() or (piece.startswith("<0x") and piece.endswith(">")):
        return ""
    script = script_of(character)
    return "Han" if script in ("Hiragana", "Katakana") else script


def _learn(
    words: Iterator[str], tokenizer: Tokenizer, pieces: int, min_frequency: int
) -> Iterator[tuple[str, str]]:
    """Merges of old pieces, the most frequent first, as BPE training finds them."""
    if pieces <= 0:
        return
    core = Core(BPE())
    core.pre_tokenizer = CharDelimiterSplit(" ")
    texts = list(words)
    alphabet = len(set().union(*map(set, texts)) - {" "})
    trainer = BpeTrainer(
        vocab_size=alphabet + 2 * pieces, min_frequency=min_frequency, show_progress=False, special_tokens=[],
        max_token_length=_LONGEST,
    )  # fmt: skip
    core.train_from_iterator(texts, trainer)
    written = {id: piece for piece, id in tokenizer.definition["model"]["vocab"].items()}
    for pair in json.loads(core.to_str())["model"]["merges"]:
        left, right = pair if isinstance(pair, list) else pair.split(" ")
        yield (
            "".join(written[ord(character) - _FIRST_PRIVATE] for character in left),
            "".join(written[ord(character) - _FIRST_PRIVATE] for character in right),
        )
