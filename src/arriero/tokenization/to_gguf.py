"""A tokenizer as the metadata of a GGUF file, so that llama.cpp cuts text into the same ids.

llama.cpp knows how byte-level tokenizers split text by a name only (``tokenizer.ggml.pre``); a pattern without one is
refused, for with another pattern the ids would silently differ. SentencePiece-type tokenizers are scores to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from arriero.errors import ArrieroError
from arriero.tokenization.patterns import SPLIT_PATTERNS
from arriero.tokenization.pieces import SPACE
from arriero.tokenization.sentencepiece_model import PieceType, merges_of
from arriero.tokenization.tokenizer import Tokenizer

PRE_OF = {"gpt2": "gpt-2", "llama3": "llama-bpe", "cl100k": "llama-bpe", "qwen": "qwen2", "o200k": "gpt-4o", "smollm": "smollm"}  # fmt: skip
"""Name of SPLIT_PATTERNS -> ``tokenizer.ggml.pre``."""
_HARMLESS_NORMALIZERS = ("NFC",)
"""Qwen's; llama.cpp's own converter leaves it out too."""


def gguf_tokenizer_metadata(tokenizer: Tokenizer, rows: int | None = None) -> dict[str, Any]:
    """``tokenizer.ggml.*`` and the chat template.

    Args:
        rows: of the model's embedding; ids without a token are filled up.

    Raises:
        ArrieroError: llama.cpp has no such tokenizer, or the tokens are more than the rows.
    """
    definition = tokenizer.definition
    model = definition["model"]
    kind = "BPE with bytes" if model.get("byte_fallback") else tokenizer.pieces.kind
    if model["type"] != "BPE" or kind not in ("BPE with bytes", "byte_level"):
        raise ArrieroError(
            f"a tokenizer of type {model['type']} ({kind}) cannot be written as GGUF; byte-level BPE and "
            "SentencePiece-type BPE with bytes can"
        )
    tokens, types = _tokens(definition, rows)
    if kind == "byte_level":
        found = _byte_level(definition, tokens, types)
    else:
        found = _sentencepiece(definition, tokens, types)
    return {**found, **_special(tokenizer, definition)}


def with_special_ids(metadata: dict[str, Any], ids: Mapping[str, Any]) -> dict[str, Any]:
    """``metadata`` with what a model's ``bos_token_id``, ``eos_token_id`` and ``pad_token_id`` say beyond it."""
    ends = ids.get("eos_token_id")
    ends = list(ends) if isinstance(ends, list | tuple) else [ends]
    more = {"bos": ids.get("bos_token_id"), "eos": ends[0], "padding": ids.get("pad_token_id")}
    found = {f"tokenizer.ggml.{name}_token_id": id for name, id in more.items() if id is not None}
    return {**found, **metadata}


def _tokens(definition: dict[str, Any], rows: int | None) -> tuple[list[str], list[int]]:
    """Text and type of every id."""
    model = definition["model"]
    known = {id: (piece, _type_of(piece, model)) for piece, id in model["vocab"].items()}
    for token in definition.get("added_tokens") or []:
        kind = PieceType.CONTROL if token["special"] else PieceType.USER_DEFINED
        if token["content"] == model.get("unk_token") and model.get("byte_fallback"):
            kind = PieceType.UNKNOWN
        known[token["id"]] = (token["content"], int(kind))
    count = max(known, default=-1) + 1
    if rows is not None and count > rows:
        raise ArrieroError(f"the tokenizer has {count} tokens, the model only {rows} rows of embeddings")
    filled = [known.get(id, (f"[PAD{id}]", int(PieceType.UNUSED))) for id in range(max(count, rows or 0))]
    return [text for text, _ in filled], [kind for _, kind in filled]


def _type_of(piece: str, model: dict[str, Any]) -> int:
    if model.get("byte_fallback"):
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return int(PieceType.BYTE)
        if piece == model.get("unk_token"):
            return int(PieceType.UNKNOWN)
    return int(PieceType.NORMAL)


def _byte_level(definition: dict[str, Any], tokens: list[str], types: list[int]) -> dict[str, Any]:
    for step in _steps(definition.get("normalizer"), "normalizers"):
        if step["type"] not in _HARMLESS_NORMALIZERS:
            raise ArrieroError(f"the tokenizer's normaliser {step['type']} cannot be written as GGUF")
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PRE_OF[_pattern(definition)],
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [" ".join(_pair(merge)) for merge in definition["model"]["merges"]],
    }


def _pattern(definition: dict[str, Any]) -> str:
    """The name of the pattern by which the tokenizer splits text."""
    regexes: list[str] = []
    for step in _steps(definition.get("pre_tokenizer"), "pretokenizers"):
        if (
            step["type"] == "Split"
            and "Regex" in step["pattern"]
            and str(step["behavior"]).lower() == "isolated"
        ):
            regexes.append(step["pattern"]["Regex"])
        elif step["type"] == "Digits" and step.get("individual_digits"):
            regexes.append(r"\p{N}")
        elif step["type"] == "ByteLevel" and not step.get("add_prefix_space"):
            regexes += SPLIT_PATTERNS["gpt2"] if step.get("use_regex", True) else ()
        else:
            raise ArrieroError(
                f"the tokenizer's step {step['type']} before merging cannot be written as GGUF"
            )
    for name in PRE_OF:
        if SPLIT_PATTERNS[name] == tuple(regexes):
            return name
    raise ArrieroError(
        f"the tokenizer splits text by a pattern that has no name in llama.cpp; {', '.join(PRE_OF)} have one"
    )


def _sentencepiece(definition: dict[str, Any], tokens: list[str], types: list[int]) -> dict[str, Any]:
    merges = [_pair(merge) for merge in definition["model"]["merges"]]
    rank: dict[str, int] = {}
    for left, right in merges:
        rank.setdefault(left + right, len(rank))
    scores = [
        (-float(rank[token]) if token in rank else -float(len(rank) + id))
        if kind == PieceType.NORMAL
        else 0.0
        for id, (token, kind) in enumerate(zip(tokens, types, strict=True))
    ]
    if set(merges) != set(merges_of(list(zip(tokens, scores, types, strict=True)))):
        raise ArrieroError(
            "the tokenizer does not merge every pair that makes a piece, as SentencePiece and llama.cpp do; "
            "it cannot be written as GGUF"
        )
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_space_prefix": _space_before(definition),
    }


def _space_before(definition: dict[str, Any]) -> bool:
    """Whether a space is put before a text. Spaces must be all that is changed of it."""
    found = False
    for step in _steps(definition.get("normalizer"), "normalizers"):
        if step["type"] == "Prepend" and step["prepend"] == SPACE:
            found = True
        elif not (
            step["type"] == "Replace" and step["pattern"] == {"String": " "} and step["content"] == SPACE
        ):
            raise ArrieroError(f"the tokenizer's normaliser {step['type']} cannot be written as GGUF")
    for step in _steps(definition.get("pre_tokenizer"), "pretokenizers"):
        if step["type"] != "Metaspace" or step.get("split"):
            raise ArrieroError(
                f"the tokenizer's step {step['type']} before merging cannot be written as GGUF"
            )
        found = found or step.get("prepend_scheme") != "never"
    return found


def _special(tokenizer: Tokenizer, definition: dict[str, Any]) -> dict[str, Any]:
    names = tokenizer.config
    ids = {}
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        name = names.get(f"{ours}_token")
        name = name.get("content") if isinstance(name, dict) else name
        id = tokenizer.token_id(name) if name else None
        if id is not None:
            ids[f"tokenizer.ggml.{theirs}_token_id"] = id
    turn = tokenizer.end_of_turn_id
    if turn != ids.get("tokenizer.ggml.eos_token_id"):
        ids["tokenizer.ggml.eot_token_id"] = turn
    before, after = _around(definition)
    found = {
        **ids,
        "tokenizer.ggml.add_bos_token": bool(names.get("add_bos_token", before)),
        "tokenizer.ggml.add_eos_token": bool(names.get("add_eos_token", after)),
    }
    template = names.get("chat_template")
    return {**found, "tokenizer.chat_template": template} if isinstance(template, str) else found


def _around(definition: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a special token is put before and after a text by tokenizer.json itself."""
    for step in _steps(definition.get("post_processor"), "processors"):
        if step["type"] == "TemplateProcessing":
            places = ["SpecialToken" in item for item in step["single"]]
            return places[0], places[-1]
    return False, False


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _steps(step: dict[str, Any] | None, key: str) -> Iterator[dict[str, Any]]:
    """The steps of a part of tokenizer.json, sequences laid flat."""
    if step and step.get("type") == "Sequence":
        for inner in step[key]:
            yield from _steps(inner, key)
    elif step:
        yield step
