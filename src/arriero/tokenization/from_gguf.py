"""The tokenizer that a GGUF file holds, from its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from arriero.errors import ArrieroError, did_you_mean
from arriero.tokenization.bert_vocab import from_vocab
from arriero.tokenization.build import byte_level
from arriero.tokenization.pieces import SPACE
from arriero.tokenization.sentencepiece_model import BPE, PieceType, SentencePieces, to_tokenizer
from arriero.tokenization.tokenizer import Tokenizer

PATTERN_OF = {
    "gpt-2": "gpt2", "gpt2": "gpt2", "default": "gpt2", "olmo": "gpt2", "dbrx": "cl100k", "llama-bpe": "llama3",
    "llama3": "llama3", "llama-v3": "llama3", "qwen2": "qwen", "gpt-4o": "o200k", "smollm": "smollm", "starcoder": "smollm",
    "refact": "smollm", "command-r": "smollm",
}  # fmt: skip
"""`tokenizer.ggml.pre` -> a name of SPLIT_PATTERNS."""


def from_gguf_metadata(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of ``tokenizer.ggml.*`` and its chat template; ids as in the file.

    Raises:
        ArrieroError: there is none, or one of a kind that is not known.
    """
    kind = _get(metadata, "model")
    if kind is None:
        raise ArrieroError("the GGUF file holds no tokenizer: it has no tokenizer.ggml.model")
    builders = {"gpt2": _byte_level, "llama": _sentencepiece, "bert": _wordpiece}
    if kind not in builders:
        raise ArrieroError(
            f"the GGUF file's tokenizer is of the unknown kind '{kind}'{did_you_mean(kind, builders)}"
        )
    tokenizer = builders[kind](metadata)
    template = metadata.get("tokenizer.chat_template")
    return tokenizer.with_config(chat_template=str(template)) if template else tokenizer


def _get(metadata: Mapping[str, Any], key: str) -> Any:
    return metadata.get(f"tokenizer.ggml.{key}")


def _tokens(metadata: Mapping[str, Any]) -> list[str]:
    tokens = _get(metadata, "tokens")
    if not isinstance(tokens, Sequence) or not tokens:
        raise ArrieroError("the GGUF file's tokenizer has no tokens (tokenizer.ggml.tokens)")
    return [str(token) for token in tokens]


def _types(metadata: Mapping[str, Any], count: int) -> list[int]:
    types = _get(metadata, "token_type")
    return [PieceType.NORMAL] * count if types is None else [int(kind) for kind in types]


def _names(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, str]:
    keys = {"bos": "bos", "eos": "eos", "padding": "pad", "unknown": "unk"}
    ids = {f"{ours}_token": _get(metadata, f"{theirs}_token_id") for theirs, ours in keys.items()}
    return {key: tokens[int(id)] for key, id in ids.items() if id is not None and 0 <= int(id) < len(tokens)}


def _byte_level(metadata: Mapping[str, Any]) -> Tokenizer:
    tokens, pre = _tokens(metadata), str(_get(metadata, "pre") or "gpt-2")
    if pre not in PATTERN_OF:
        raise ArrieroError(
            f"the GGUF file splits text as '{pre}' (tokenizer.ggml.pre), which is not known{did_you_mean(pre, PATTERN_OF)}"
        )
    kinds = _types(metadata, len(tokens))
    names = _names(metadata, tokens)
    marked = {t: i for i, t in enumerate(tokens) if kinds[i] in (PieceType.CONTROL, PieceType.USER_DEFINED)}
    specials = {**marked, **{name: tokens.index(name) for name in names.values()}}
    merges = [_pair(merge) for merge in _get(metadata, "merges") or ()]
    vocab = {token: id for id, token in enumerate(tokens)}
    bos = bool(_get(metadata, "add_bos_token"))
    return byte_level(vocab, merges, PATTERN_OF[pre], specials, names, bos=bos)


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = str(merge).partition(" ")
    return left, right


def _sentencepiece(metadata: Mapping[str, Any]) -> Tokenizer:
    tokens = _tokens(metadata)
    scores = _get(metadata, "scores")
    if scores is None or len(scores) != len(tokens):
        raise ArrieroError("the GGUF file's tokenizer has no score for every token (tokenizer.ggml.scores)")
    pieces = list(zip(tokens, map(float, scores), _types(metadata, len(tokens)), strict=True))
    space = _get(metadata, "add_space_prefix")
    model = SentencePieces(
        pieces=pieces, model_type=BPE, byte_fallback=True, prefix_space=space is None or bool(space), trim_spaces=False,
        ids={key.removesuffix("_token"): tokens.index(name) for key, name in _names(metadata, tokens).items()},
    )  # fmt: skip
    return to_tokenizer(model)


def _wordpiece(metadata: Mapping[str, Any]) -> Tokenizer:
    """llama.cpp writes "▁" before pieces that begin a word, and takes "##" off the others."""
    tokens = _tokens(metadata)
    kinds = _types(metadata, len(tokens))
    whole = (PieceType.CONTROL, PieceType.UNKNOWN)
    marked = any(token.startswith(SPACE) for token in tokens)

    def piece(token: str, kind: int) -> str:
        if not marked or kind in whole or (token.startswith("[") and token.endswith("]") and len(token) > 2):
            return token
        return token[1:] if token.startswith(SPACE) else f"##{token}"

    return from_vocab([piece(token, kind) for token, kind in zip(tokens, kinds, strict=True)])
