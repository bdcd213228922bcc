"""Tokenizers from the metadata of GGUF files."""

from __future__ import annotations

from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.from_gguf import from_gguf_metadata
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer

TEXT = "Once upon 123 times, it's é日本 🦙\n\n x"


def byte_level_metadata(tokenizer: Tokenizer, pre: str) -> dict[str, Any]:
    model = tokenizer.definition["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in tokenizer.special_ids else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": "{{ bos_token }}",
    }  # fmt: skip


@pytest.mark.parametrize(("pattern", "pre"), [("gpt2", "gpt-2"), ("llama3", "llama-bpe")])
def test_byte_level(pattern: Any, pre: str) -> None:
    ours = train_bpe([*sample_texts(20_000), TEXT], 500, pattern, 2)
    loaded = from_gguf_metadata(byte_level_metadata(ours, pre))
    assert loaded.encode(TEXT) == ours.encode(TEXT) and loaded.decode(ours.encode(TEXT)) == TEXT
    assert loaded.special_ids == ours.special_ids and (loaded.bos_id, loaded.eos_id) == (0, 1)
    assert loaded.chat.source == "{{ bos_token }}"


def test_sentencepiece_scores_decide() -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "ab", "▁a", "▁ab"]
    metadata = {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [0.0] * 259 + [-9.0, -9.0, -9.0, -1.0, -2.0, -3.0],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 6,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
    }  # fmt: skip
    loaded = from_gguf_metadata(metadata)
    assert loaded.encode("ab") == [264] and loaded.encode("a b") == [263, 259, 261]
    assert loaded.encode("c") == [259, 3 + ord("c")] and loaded.decode(loaded.encode("a c🦙")) == "a c🦙"
    without = from_gguf_metadata({**metadata, "tokenizer.ggml.add_space_prefix": False})
    assert without.encode("ab") == [262] and without.decode([262]) == "ab" and without.decode([264]) == " ab"


def test_wordpiece_in_llama_cpps_spelling() -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁lla", "ma", "▁,"]
    loaded = from_gguf_metadata({
        "tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3, 3, 3, 1, 1, 1],
    })  # fmt: skip
    assert loaded.encode("Llama, x") == [5, 6, 7, 1]
    assert loaded.decode([5, 6, 7]) == "llama,"


def test_what_is_not_known_is_refused() -> None:
    good = byte_level_metadata(train_bpe(["a"], 300, "gpt2", 2), "gpt-2")
    for changed, said in (
        ({"tokenizer.ggml.model": "rwkv"}, "unknown kind 'rwkv'"),
        ({"tokenizer.ggml.pre": "qwen3"}, "did you mean 'qwen2'"),
        ({"tokenizer.ggml.tokens": []}, "no tokens"),
        ({"tokenizer.ggml.model": "llama"}, "no score for every token"),
        ({"tokenizer.ggml.model": None}, "holds no tokenizer"),
    ):
        with pytest.raises(ArrieroError, match=said):
            from_gguf_metadata({**good, **changed})
