"""CodeGeeX's top query layer: the whole network written out in NumPy, one score at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_model, save_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.generation import generate

MakeModel = Callable[..., Decoder]
CODEGEEX: dict[str, Any] = {
    "family": "codegeex", "positions": "learned", "top_query": True, "norm": "layer", "gated": False,
    "activation": "gelu_quick", "qkv_bias": True, "out_bias": True, "feed_forward_bias": True,
    "d_model": 15, "n_heads": 3, "n_kv_heads": 3, "d_ff": 22, "n_layers": 3, "context_length": 23,
}  # fmt: skip


def ids_of(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 97, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model(make_model: MakeModel) -> Decoder:
    net = make_model(**CODEGEEX)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.2, 0.4, generator=generator)
    return net.double()


def written_out(net: Decoder, ids: list[int]) -> np.ndarray:
    """Logits [T, V] of one document, after the authors' ``codegeex_model.py``: blocks, norm, top query layer, no more."""
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    length, layers = len(ids), net.config.n_layers
    x = weights["embedding.weight"][ids] + weights["positions.weight"][:length]
    for number in range(layers - 1):
        x = _block(weights, f"blocks.{number}.", x, None, net.config)
    x = _norm(x, weights, "norm.")
    x = _block(
        weights, f"blocks.{layers - 1}.", x, weights["positions_of_queries.weight"][:length], net.config
    )
    return x @ weights["embedding.weight"].T


def _norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / spread * weights[name + "weight"] + weights[name + "bias"]


def _block(
    weights: dict[str, np.ndarray],
    name: str,
    x: np.ndarray,
    queries: np.ndarray | None,
    config: DecoderConfig,
) -> np.ndarray:
    def map_of(part: str, y: np.ndarray) -> np.ndarray:
        return y @ weights[f"{name}{part}.weight"].T + weights[f"{name}{part}.bias"]

    normed = _norm(x, weights, name + "attention_norm.")
    q = map_of("attention.q_proj", normed if queries is None else queries)
    k, v = map_of("attention.k_proj", normed), map_of("attention.v_proj", normed)
    out = np.zeros_like(q)
    for h in range(config.n_heads):
        own = slice(h * config.head_dim, (h + 1) * config.head_dim)
        for i in range(len(x)):
            odds = np.exp([q[i, own] @ k[j, own] / math.sqrt(config.head_dim) for j in range(i + 1)])
            out[i, own] = (odds / odds.sum()) @ v[: i + 1, own]
    x = x + map_of("attention.o_proj", out)
    inner = map_of("feed_forward.up_proj", _norm(x, weights, name + "feed_forward_norm."))
    # MindSpore's fast_gelu as it is written there
    inner = inner / (1 + np.exp(-1.702 * np.abs(inner))) * np.exp(0.851 * (inner - np.abs(inner)))
    return x + map_of("feed_forward.down_proj", inner)


@pytest.mark.parametrize("length", [1, 2, 13, 23])
def test_the_network_written_out(model: Decoder, length: int) -> None:
    ids = ids_of(2, length)
    found = model(ids).detach().numpy()
    for row in range(2):
        expected = written_out(model, ids[row].tolist())
        assert np.abs(found[row] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_packed_documents_are_as_if_alone(model: Decoder) -> None:
    ids = ids_of(2, 20)
    segments = torch.tensor([[4] * 7 + [5] * 10 + [-1] * 3, [0] * 12 + [7] * 8])
    packed = model(ids, segments=segments).detach().numpy()
    assert not np.isnan(packed).any()
    for row, start, stop in ((0, 0, 7), (0, 7, 17), (1, 0, 12), (1, 12, 20)):
        expected = written_out(model, ids[row, start:stop].tolist())
        assert np.abs(packed[row, start:stop] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_every_weight_learns(make_model: MakeModel) -> None:
    model, ids = make_model(**CODEGEEX), ids_of(2, 17)
    model.hidden(ids, segments=torch.tensor([[0] * 9 + [1] * 8, [0] * 17])).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_query_knows_the_place_alone(make_model: MakeModel) -> None:
    """With one block, the last token changes its own key and value only: queries are the same for any text."""
    model, seen = make_model(**{**CODEGEEX, "n_layers": 1}), []
    hook = model.blocks[0].attention.q_proj.register_forward_hook(lambda module, x, y: seen.append(y.clone()))
    model(ids_of(1, 9)), model(ids_of(1, 9, seed=7))
    hook.remove()
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0][0, 0], seen[0][0, 1])


def test_saved_loaded_scored_and_generated_from(make_model: MakeModel, tmp_path: Path) -> None:
    model, row = make_model(**CODEGEEX), ids_of(1, 12)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.config == model.config and torch.equal(again(row), model(row))
    expected = model(row).log_softmax(-1)[0, :-1].gather(1, row[0, 1:, None])[:, 0]
    np.testing.assert_allclose(
        again.token_logprobs([row[0].tolist()])[0], expected.detach().numpy(), atol=1e-5
    )
    assert generate(again, [3, 4], 6, temperature=0) == generate(model, [3, 4], 6, temperature=0)


def test_what_makes_no_sense_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    for change in ({"positions": "rotary", "head_dim": 6}, {"arrangement": "post"}):
        with pytest.raises(ArrieroError, match="top_query goes with"):
            DecoderConfig.parse({"vocab_size": 97, **CODEGEEX, **change}, "here")
    for family in ("gpt2", "gpt1", "starcoder", "opt", "llama"):
        with pytest.raises(ArrieroError, match="cannot hold"):
            save_model(make_model(**{**CODEGEEX, "family": family}), tmp_path / family)
