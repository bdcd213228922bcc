"""tokenizer.json of the kinds of tokenizer that Arriero reads and trains, put together from their parts.

Special tokens lie in the model's own vocabulary too, with their ids: so gaps and specials in the middle of the ids
come back as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer as Core

from arriero.errors import ArrieroError
from arriero.tokenization.config import config_of
from arriero.tokenization.patterns import SPLIT_PATTERNS
from arriero.tokenization.pieces import SPACE
from arriero.tokenization.tokenizer import Tokenizer

Merges = Sequence[tuple[str, str]]
Step = dict[str, Any]


def byte_level(
    vocab: Mapping[str, int], merges: Merges, pattern: str, specials: Mapping[str, int], names: Mapping[str, str],
    *, bos: bool = False,
) -> Tokenizer:  # fmt: skip
    """Byte-level BPE; pieces are in GPT-2's printable alphabet. A whole word that is a piece is taken as it is.

    Args:
        pattern: a name of ``SPLIT_PATTERNS``.
        specials: special token -> id. names: bos_token, eos_token, ... -> special token.
        bos: whether other libraries put BOS before a text by themselves.
    """
    splits = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        for regex in SPLIT_PATTERNS[pattern]
    ]
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return _tokenizer(
        model=_bpe({**vocab, **specials}, merges, ignore_merges=True),
        pre_tokenizer=_sequence("pretokenizers", [*splits, step]),
        decoder=step, specials=specials, names=names, bos=bos,
    )  # fmt: skip


def sentencepiece_bpe(
    vocab: Mapping[str, int], merges: Merges, specials: Mapping[str, int], names: Mapping[str, str],
    *, unknown: str, byte_fallback: bool, normalizer: Sequence[Step], first_space: bool, added: Sequence[str] = (),
    bos: bool = True,
) -> Tokenizer:  # fmt: skip
    """SentencePiece-type BPE: spaces are written as "▁", unknown characters as their bytes ``<0xXX>``."""
    return _tokenizer(
        model=_bpe(
            {**vocab, **specials}, merges, unk_token=unknown, byte_fallback=byte_fallback, fuse_unk=True
        ),
        normalizer=_sequence("normalizers", normalizer),
        decoder=metaspace_decoder(first_space), specials=specials, names=names, added=added, bos=bos,
    )  # fmt: skip


def unigram(
    pieces: Sequence[tuple[str, float]], specials: Mapping[str, int], names: Mapping[str, str],
    *, unknown: int, byte_fallback: bool, normalizer: Sequence[Step], first_space: bool, added: Sequence[str] = (),
    bos: bool = True, never_in_text: Sequence[str] = (),
) -> Tokenizer:  # fmt: skip
    """Unigram language model (Kudo 2018): the id of a piece is its place.

    ``never_in_text``: pieces that stand for something else than their text (<s>, <0x41>). The library would find them
    in a text all the same, so the text is cut after their first character.
    """
    model = {
        "type": "Unigram",
        "unk_id": unknown,
        "vocab": [list(piece) for piece in pieces],
        "byte_fallback": byte_fallback,
    }
    inside = "|".join(
        f"{re.escape(piece[0])}(?={re.escape(piece[1:])})" for piece in never_in_text if len(piece) > 1
    )
    cut = {"type": "Split", "pattern": {"Regex": inside}, "behavior": "MergedWithPrevious", "invert": False}
    return _tokenizer(
        model=model, normalizer=_sequence("normalizers", normalizer), pre_tokenizer=cut if inside else None,
        decoder=metaspace_decoder(first_space), specials=specials, names=names, added=added, bos=bos,
    )  # fmt: skip


def wordpiece(vocab: Mapping[str, int], *, lowercase: bool, names: Mapping[str, str]) -> Tokenizer:
    """BERT's WordPiece: its normaliser, its splitting at spaces and punctuation, longest match first."""
    specials = {name: vocab[name] for name in names.values() if name in vocab}
    missing = [key for key in ("unk_token", "cls_token", "sep_token") if names.get(key) not in vocab]
    if missing:
        raise ArrieroError(
            f"a WordPiece vocabulary needs {', '.join(str(names.get(key)) for key in missing)}"
        )
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": lowercase,
    }
    model = {
        "type": "WordPiece",
        "unk_token": names["unk_token"],
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": dict(vocab),
    }
    cls, sep = names["cls_token"], names["sep_token"]
    return _tokenizer(
        model=model, normalizer=normalizer, pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}, specials=specials, names=names,
        post_processor={
            "type": "TemplateProcessing",
            "single": [_special(cls), _text("A"), _special(sep)],
            "pair": [_special(cls), _text("A"), _special(sep), _text("B", 1), _special(sep, 1)],
            "special_tokens": {name: _entry(name, vocab[name]) for name in (cls, sep)},
        },
        more={"do_lower_case": lowercase},
    )  # fmt: skip


def prefix_space() -> list[Step]:
    """Normaliser of Llama: one space before the text, and "▁" for each space."""
    return [{"type": "Prepend", "prepend": SPACE}, spaces()]


def spaces() -> Step:
    """Normaliser that writes "▁" for each space."""
    return {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}


def metaspace_decoder(first_space: bool) -> Step:
    """Decoder of SentencePiece-type pieces; ``first_space``: encoding puts a space before the text."""
    steps: list[Step] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if first_space:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return _sequence("decoders", steps)


def _bpe(vocab: Mapping[str, int], merges: Merges, **options: Any) -> Step:
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
    }  # fmt: skip
    return {**model, **options, "vocab": dict(vocab), "merges": [list(pair) for pair in merges]}


def _sequence(key: str, steps: Sequence[Step]) -> Step:
    return {"type": "Sequence", key: list(steps)}


def _tokenizer(
    *, model: Step, decoder: Step, specials: Mapping[str, int], names: Mapping[str, str],
    normalizer: Step | None = None, pre_tokenizer: Step | None = None, post_processor: Step | None = None,
    added: Sequence[str] = (), bos: bool = False, more: Mapping[str, Any] | None = None,
) -> Tokenizer:  # fmt: skip
    ids = (
        dict(model["vocab"])
        if isinstance(model["vocab"], dict)
        else {p: i for i, (p, _) in enumerate(model["vocab"])}
    )
    tokens = [added_token(name, id, special=True) for name, id in specials.items()]
    tokens += [added_token(name, ids[name], special=False) for name in added]
    if bos and names.get("bos_token") in specials:
        post_processor = _bos_before(names["bos_token"], specials[names["bos_token"]])
    definition = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": sorted(tokens, key=lambda token: token["id"]),
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
        "decoder": decoder, "model": model,
    }  # fmt: skip
    try:
        core = Core.from_str(json.dumps(definition, ensure_ascii=False))
    except Exception as error:  # the library raises bare Exception
        raise ArrieroError(f"these are not the parts of a tokenizer: {str(error).splitlines()[0]}") from None
    return Tokenizer(core.to_str(pretty=False), config_of(names, **(more or {})))


def added_token(content: str, id: int, *, special: bool) -> dict[str, Any]:
    """An entry of tokenizer.json's ``added_tokens``."""
    return {
        "id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": special,
    }  # fmt: skip


def _bos_before(bos: str, id: int) -> Step:
    return {
        "type": "TemplateProcessing",
        "single": [_special(bos), _text("A")],
        "pair": [_special(bos), _text("A"), _special(bos, 1), _text("B", 1)],
        "special_tokens": {bos: _entry(bos, id)},
    }


def _special(name: str, type_id: int = 0) -> Step:
    return {"SpecialToken": {"id": name, "type_id": type_id}}


def _text(name: str, type_id: int = 0) -> Step:
    return {"Sequence": {"id": name, "type_id": type_id}}


def _entry(name: str, id: int) -> Step:
    return {"id": name, "ids": [id], "tokens": [name]}
