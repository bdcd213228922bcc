"""Pseudo-log-likelihood: one token masked at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arriero.errors import ArrieroError
from arriero.models import masked_scoring
from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.models.protocol import LanguageModel


def make_encoder(task: str = "masked_lm") -> Encoder:
    values = {
        "vocab_size": 31,
        "d_model": 12,
        "n_layers": 2,
        "n_heads": 2,
        "d_ff": 20,
        "context_length": 20,
        "init_std": 0.3,
    }
    model = Encoder(EncoderConfig.parse({**values, "task": task}, "test")).eval()
    model.init_weights(0)
    return model


def test_each_token_from_all_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mask_id = make_encoder(), 3
    sequences = [[1, 9, 10, 4, 2], [1, 7], [1], [5, 6, 7, 8, 9, 10, 11]]
    expected = []
    for ids in sequences:
        values = []
        for place in range(1, len(ids)):
            row = torch.tensor([ids])
            row[0, place] = mask_id
            with torch.no_grad():
                values.append(float(model(row)[0, place].log_softmax(-1)[ids[place]]))
        expected.append(np.array(values))
    for tokens in (1, 12, 4096):  # however many rows go together
        monkeypatch.setattr(masked_scoring, "TOKENS_PER_BATCH", tokens)
        for scores, right in zip(model.pseudo_logprobs(sequences, mask_id), expected, strict=True):
            assert scores.dtype == np.float64
            np.testing.assert_allclose(scores, right, atol=1e-5)


def test_is_no_left_to_right_model() -> None:
    assert not isinstance(make_encoder(), LanguageModel)


def test_training_mode_is_kept_but_not_used() -> None:
    model = make_encoder().train()
    model.pseudo_logprobs([[1, 2, 3]], 3)
    assert model.training


def test_errors() -> None:
    with pytest.raises(ArrieroError, match="has no masked LM head"):
        make_encoder("token_classification").pseudo_logprobs([[1, 2]], 3)
    with pytest.raises(ArrieroError, match="sequence 1 has 21 tokens, more than the 20"):
        make_encoder().pseudo_logprobs([[1], [1] * 21], 3)
    with pytest.raises(ArrieroError, match="outside the vocabulary of 31"):
        make_encoder().pseudo_logprobs([[1, 31]], 3)
    with pytest.raises(ArrieroError, match="outside the vocabulary of 31"):
        make_encoder().pseudo_logprobs([[1, 2]], 31)
