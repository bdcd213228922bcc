"""The exported folder in transformers: same logits, same greedy tokens, same ids, same chat text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from arriero.inference.engine import Engine
from arriero.inference.request import Request, Sampling
from arriero.models.checkpoint import load_model
from arriero.tokenization.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.parity]

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of France?  \n Tell me – please 🙂"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Peru?"},
]
TEXTS = [
    "Hello world",
    " two  spaces\n\nand lines",
    "naïve façade 北京 🦙",
    "12345 + 678",
    "",
    "<|im_end|> is only text",
]


@pytest.fixture(scope="module")
def theirs(smoke_run: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(smoke_run / "hf", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizers(smoke_run: Path):
    return Tokenizer.load(smoke_run / "hf"), transformers.AutoTokenizer.from_pretrained(smoke_run / "hf")


def test_logits_and_greedy_tokens(smoke_run: Path, theirs, tokenizers) -> None:
    ours = load_model(smoke_run / "hf", dtype="float32").eval()
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, ours.config.vocab_size, (3, 100), generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)
    mine, _ = tokenizers
    prompt = mine.chat.render(CONVERSATION[-1:], add_generation_prompt=True).ids
    engine = Engine(ours, mine)
    request = Request(prompt, Sampling(temperature=0.0, max_tokens=64, ignore_end=True))
    answer = engine.generate([request])[0]
    theirs.generation_config.eos_token_id = None  # both go on past end tokens
    generated = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=64, do_sample=False, pad_token_id=mine.pad_id
    )[0, len(prompt) :].tolist()  # fmt: skip
    assert answer.ids == generated


def test_tokenizer_and_template(tokenizers) -> None:
    ours, hf = tokenizers
    for text in TEXTS[:-1]:
        assert ours.encode(text) == hf.encode(text, add_special_tokens=False)
        assert ours.decode(ours.encode(text)) == text
    assert ours.decode(ours.encode(TEXTS[-1])) == TEXTS[-1]
    rendered = ours.chat.render(CONVERSATION, add_generation_prompt=True)
    assert rendered.text == hf.apply_chat_template(CONVERSATION, add_generation_prompt=True, tokenize=False)
    encoded = hf.apply_chat_template(CONVERSATION, add_generation_prompt=True, tokenize=True)
    assert rendered.ids == list(encoded["input_ids"] if hasattr(encoded, "keys") else encoded)


def test_generation_config_ends_at_the_end_of_turn(smoke_run: Path, tokenizers) -> None:
    ours, _ = tokenizers
    ends = json.loads((smoke_run / "hf" / "generation_config.json").read_text())["eos_token_id"]
    assert ours.end_of_turn_id in (ends if isinstance(ends, list) else [ends])
