from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Core

from arriero.errors import ArrieroError
from arriero.tokenization.bert_vocab import from_vocab
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.build import byte_level
from arriero.tokenization.from_gguf import from_gguf_metadata
from arriero.tokenization.load import load_tokenizer
from arriero.tokenization.to_gguf import PRE_OF, gguf_tokenizer_metadata, with_special_ids
from arriero.tokenization.tokenizer import Tokenizer

DATA = Path(__file__).parents[1] / "data" / "stories260k"
TEXT = "The 12 cats sat, the 345 dogs didn't; it's Königsberg. " * 4
ENDS = {"<|endoftext|>": 270, "<|im_end|>": 271}


def trained(pattern: str) -> Tokenizer:
    """Byte-level, split by any of the patterns: the merges are learnt by GPT-2's."""
    model = train_bpe([TEXT], 300, "gpt2", 2).definition["model"]
    vocab = {piece: id for piece, id in model["vocab"].items() if id < 270}
    merges = [tuple(pair) for pair in model["merges"] if pair[0] + pair[1] in vocab]
    return byte_level(
        vocab, merges, pattern, ENDS, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    )


@pytest.mark.parametrize("pattern", PRE_OF)
@settings(max_examples=40, deadline=None)
@given(
    text=st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from([TEXT[:60], "a1234  b\n\n c"])
)
def test_byte_level_comes_back(pattern: str, text: str) -> None:
    tokenizer = trained(pattern)
    metadata = gguf_tokenizer_metadata(tokenizer, 280)
    assert metadata["tokenizer.ggml.pre"] == PRE_OF[pattern]
    assert from_gguf_metadata(metadata).encode(text) == tokenizer.encode(text)


def test_types_ids_and_rows_without_token() -> None:
    tokenizer = trained("smollm").with_config(chat_template="{{ bos_token }}")
    metadata = gguf_tokenizer_metadata(tokenizer, 280)
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == 280
    assert tokens[270:273] == ["<|endoftext|>", "<|im_end|>", "[PAD272]"] and types[269:274] == [
        1,
        3,
        3,
        5,
        5,
    ]
    assert metadata["tokenizer.ggml.bos_token_id"] == metadata["tokenizer.ggml.eos_token_id"] == 270
    assert metadata["tokenizer.ggml.eot_token_id"] == 271
    assert metadata["tokenizer.ggml.add_bos_token"] is False
    assert metadata["tokenizer.chat_template"] == "{{ bos_token }}"
    assert all(" " in merge for merge in metadata["tokenizer.ggml.merges"])


def test_ours_put_bos_before_a_text() -> None:
    tokenizer = train_bpe([TEXT], 300, "llama3", 2)
    metadata = gguf_tokenizer_metadata(tokenizer)
    assert (
        metadata["tokenizer.ggml.add_bos_token"] is True and metadata["tokenizer.ggml.add_eos_token"] is False
    )
    assert metadata["tokenizer.ggml.padding_token_id"] == tokenizer.pad_id
    explicit = gguf_tokenizer_metadata(tokenizer.with_config(add_bos_token=False))
    assert explicit["tokenizer.ggml.add_bos_token"] is False


def test_gpt2s_own_files() -> None:
    """ByteLevel splits by itself in them; digits are cut by a step of their own in SmolLM's."""
    definition = trained("gpt2").definition
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    for pre, wanted in ((step, "gpt-2"), ({"type": "Sequence", "pretokenizers": [digits, step]}, "smollm")):
        tokenizer = Tokenizer(json.dumps({**definition, "pre_tokenizer": pre}), {})
        assert gguf_tokenizer_metadata(tokenizer)["tokenizer.ggml.pre"] == wanted


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(codec="utf-8"), max_size=60)
    | st.sampled_from(["Once upon a time,  Lily\n\n 12"])
)
def test_sentencepiece_comes_back(text: str) -> None:
    tokenizer = load_tokenizer(DATA / "tok512.bin")
    metadata = gguf_tokenizer_metadata(tokenizer, 512)
    assert from_gguf_metadata(metadata).encode(text) == tokenizer.encode(text)


def test_sentencepiece_fields() -> None:
    metadata = gguf_tokenizer_metadata(load_tokenizer(DATA / "tok512.bin"), 512)
    types, scores = metadata["tokenizer.ggml.token_type"], metadata["tokenizer.ggml.scores"]
    assert metadata["tokenizer.ggml.model"] == "llama" and metadata["tokenizer.ggml.add_space_prefix"] is True
    assert types[:4] == [2, 3, 3, 6] and types[258] == 6 and types[259] == 1
    assert scores[259] == 0.0 and scores[260] == -1.0, "the first piece merges first"
    assert metadata["tokenizer.ggml.bos_token_id"] == 1 and metadata["tokenizer.ggml.eos_token_id"] == 2
    assert metadata["tokenizer.ggml.unknown_token_id"] == 0


def test_merges_that_are_not_sentencepieces_are_refused() -> None:
    definition = load_tokenizer(DATA / "tok512.bin").definition
    definition["model"]["merges"] = definition["model"]["merges"][:-1]
    with pytest.raises(ArrieroError, match="does not merge every pair that makes a piece"):
        gguf_tokenizer_metadata(Tokenizer(json.dumps(definition), {}))


def core(model: Any, *steps: Any) -> Tokenizer:
    made = Core(model)
    made.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    return Tokenizer(made.to_str(), {})


def test_what_llama_cpp_does_not_have_is_refused() -> None:
    bpe = models.BPE({"a": 0, "b": 1}, [])
    with pytest.raises(ArrieroError, match=r"a pattern that has no name in llama.cpp; gpt2"):
        gguf_tokenizer_metadata(core(bpe, pre_tokenizers.Split(Regex("a+"), "isolated")))
    with pytest.raises(ArrieroError, match="step Punctuation before merging"):
        gguf_tokenizer_metadata(core(bpe, pre_tokenizers.Punctuation()))
    with pytest.raises(ArrieroError, match=r"type WordPiece \(wordpiece\) cannot be written"):
        gguf_tokenizer_metadata(from_vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"], True))
    with pytest.raises(ArrieroError, match="the tokenizer has 272 tokens, the model only 100 rows"):
        gguf_tokenizer_metadata(trained("gpt2"), 100)
    definition = trained("gpt2").definition
    with pytest.raises(ArrieroError, match="normaliser Lowercase cannot"):
        gguf_tokenizer_metadata(
            Tokenizer(json.dumps({**definition, "normalizer": {"type": "Lowercase"}}), {})
        )


def test_ids_of_the_model_fill_what_the_tokenizer_leaves() -> None:
    ids = {"bos_token_id": 7, "eos_token_id": [8, 9], "pad_token_id": None}
    found = with_special_ids({"tokenizer.ggml.bos_token_id": 1}, ids)
    assert found == {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 8}
