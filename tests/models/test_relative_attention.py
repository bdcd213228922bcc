"""Transformer-XL's relative attention against the sums of its paper, written out; and the decoders that have it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_model, save_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.generation import generate
from arriero.models.layers.linear import Linear
from arriero.models.layers.masks import AttentionRule, segment_mask
from arriero.models.layers.positions import sinusoidal
from arriero.models.layers.relative_attention import RelativeAttention
from arriero.models.preset import get_preset

MakeModel = Callable[..., Decoder]


def layer_of(width: int, heads: int, kv_heads: int, head_dim: int, **switches: Any) -> RelativeAttention:
    """A layer with random weights in float64."""
    layer = RelativeAttention(width, heads, kv_heads, head_dim, **switches).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return layer


def sinusoid(distance: int, width: int) -> np.ndarray:
    """R of one distance: all sines, then all cosines, as the authors' code has them."""
    pairs = (width + 1) // 2
    rates = [1.0 / 10000.0 ** (2 * c / width) for c in range(pairs)]
    sines, cosines = [math.sin(distance * r) for r in rates], [math.cos(distance * r) for r in rates]
    return np.array((sines + cosines)[:width])


def written_out(layer: RelativeAttention, x: np.ndarray, sees: np.ndarray) -> np.ndarray:
    """x [T, d] -> [T, d] by the paper's four terms, one score at a time. ``sees`` [T, T]: query i sees key j."""
    weights = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    length, width = x.shape
    heads, size = layer.n_heads, layer.head_dim
    out = np.zeros((length, heads * size))
    for h in range(heads):
        own, shared = slice(h * size, (h + 1) * size), h // (heads // layer.n_kv_heads)
        kept = slice(shared * size, (shared + 1) * size)
        w_q, w_r = weights["q_proj.weight"][own], weights["r_proj.weight"][own]
        w_k, w_v = weights["k_proj.weight"][kept], weights["v_proj.weight"][kept]
        u, v = weights["content_bias"][own], weights["position_bias"][own]
        for i in range(length):
            seen = [j for j in range(length) if sees[i, j]]
            scores = []
            for j in seen:
                q, k, r = w_q @ x[i], w_k @ x[j], w_r @ sinusoid(i - j, width)
                scores.append((q @ k + q @ r + u @ k + v @ r) / math.sqrt(size))
            odds = np.exp(np.array(scores) - max(scores))
            for share, j in zip(odds / odds.sum(), seen, strict=True):
                out[i, own] += share * (w_v @ x[j])
    return out @ weights["o_proj.weight"].T


SHAPES = [(15, 3, 3, 5, 7), (12, 4, 2, 3, 9), (10, 2, 1, 6, 1), (7, 1, 1, 7, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_the_sums_of_the_paper(shape: tuple[int, ...], masked: bool) -> None:
    width, heads, kv_heads, head_dim, length = shape
    layer = layer_of(width, heads, kv_heads, head_dim)
    x = torch.randn(2, length, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sees = np.tri(length, dtype=bool)[None].repeat(2, 0)
    mask = None
    if masked:
        segments = torch.arange(length).expand(2, -1) // torch.tensor([[3], [4]])
        segments = torch.where(torch.arange(length) == length - 1, -1, segments)
        mask = segment_mask(segments, torch.float64)
        sees &= (segments[:, :, None] == segments[:, None, :]).numpy()
    found = layer(x, sinusoidal(length, width).double(), mask).detach().numpy()
    for row in range(2):
        np.testing.assert_allclose(found[row], written_out(layer, x[row].numpy(), sees[row]), atol=1e-6)


def test_its_gradient() -> None:
    layer = layer_of(6, 2, 1, 3)
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    table, mask = (
        sinusoidal(5, 6).double(),
        segment_mask(torch.tensor([[0, 0, 1, 1, 1], [3] * 5]), torch.float64),
    )
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(names, values, strict=True))
        result: Tensor = torch.func.functional_call(layer, state, (x, table, mask))
        return result

    inputs = [x.requires_grad_(), *(p.detach().clone().requires_grad_() for p in layer.parameters())]
    assert torch.autograd.gradcheck(run, inputs)


class Keeping:
    """Keeps what came and attends by the rule."""

    def __init__(self) -> None:
        self.kept: tuple[Tensor, Tensor] | None = None

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        assert rule is not None and not rule.shared
        if self.kept is not None:
            k, v = torch.cat([self.kept[0], k], 2), torch.cat([self.kept[1], v], 2)
        self.kept = k, v
        stored = k.shape[2]
        distance = torch.arange(stored - q.shape[2], stored)[:, None] - torch.arange(stored)
        mask = rule.apply(distance >= 0, distance, q.dtype)
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        return ((q @ k.mT / math.sqrt(q.shape[-1]) + mask).softmax(-1)) @ v


@pytest.mark.parametrize("window", [None, 3])
def test_cached_equals_uncached(window: int | None) -> None:
    layer = layer_of(12, 4, 2, 5, window=window)
    x = torch.randn(2, 11, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    table, cache = sinusoidal(20, 12).double(), Keeping()
    mask = None
    if window:
        places = torch.arange(11)
        distance = places[:, None] - places
        mask = AttentionRule(window, None).apply(distance >= 0, distance, torch.float64)
    whole = layer(x, table[:11], mask)
    parts = [
        layer(x[:, a:b], table[: b + extra], None, cache)
        for a, b, extra in ((0, 4, 0), (4, 5, 3), (5, 11, 1))
    ]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-10)


def test_one_token_through_a_layer_that_is_no_plain_matrix() -> None:
    """What stands for ``r_proj`` (quantised, adapted) is called, not read."""

    class Double(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    layer, plain = layer_of(12, 4, 2, 5), layer_of(12, 4, 2, 5)
    double = Double(12, 20).double()
    double.load_state_dict(layer.r_proj.state_dict())
    layer.r_proj = double
    with torch.no_grad():
        plain.r_proj.weight.mul_(2)
    x = torch.randn(3, 1, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    table = sinusoidal(6, 12).double()
    caches = [Keeping(), Keeping()]
    for number in range(3):
        a, b = (
            net(x + number, table, None, cache) for net, cache in zip((layer, plain), caches, strict=True)
        )
        assert torch.allclose(a, b, atol=1e-12)


RELATIVE: dict[str, Any] = {
    "family": "gopher", "positions": "relative", "gated": False, "activation": "gelu", "n_kv_heads": 4,
    "qkv_bias": True, "out_bias": True, "feed_forward_bias": True,
}  # fmt: skip


def ids_of(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 97, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model(make_model: MakeModel) -> Decoder:
    net = make_model(**RELATIVE)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.3, generator=generator)
    return net


@pytest.mark.parametrize("autocast", [False, True])
def test_packed_documents_are_as_if_alone(model: Decoder, autocast: bool) -> None:
    ids = ids_of(2, 40)
    segments = torch.tensor([[4] * 11 + [5] * 20 + [-1] * 9, [0] * 25 + [7] * 15])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        packed = model(ids, segments=segments)
        assert not packed.isnan().any()
        for row, start, stop in ((0, 0, 11), (0, 11, 31), (1, 0, 25), (1, 25, 40)):
            alone = model(ids[row : row + 1, start:stop])[0]
            limit = (0.1 if autocast else 1e-5) * alone.abs().max()
            assert (packed[row, start:stop] - alone).abs().max() <= limit


def test_order_matters_and_later_tokens_do_not(model: Decoder) -> None:
    ids = ids_of(1, 20)
    turned = ids.clone()
    turned[0, [3, 9]] = ids[0, [9, 3]]
    assert not torch.allclose(model(ids)[0, -1], model(turned)[0, -1], atol=1e-2)
    changed = ids.clone()
    changed[0, 15:] = ids_of(5, seed=4)
    assert torch.allclose(model(ids)[0, :15], model(changed)[0, :15], atol=1e-5)


def test_every_weight_learns(model: Decoder) -> None:
    ids = ids_of(2, 17)
    segments = torch.tensor([[0] * 9 + [1] * 8, [0] * 16 + [-1]])
    before = torch.nn.functional.cross_entropy(
        model(ids, segments=segments)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    before.backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and not parameter.grad.isnan().any(), name
        # the same number added to all keys changes no softmax: their bias has a gradient of rounding errors
        assert parameter.grad.abs().max() > (0 if name.endswith("k_proj.bias") else 1e-8), name
    optimizer.step()
    after = torch.nn.functional.cross_entropy(
        model(ids, segments=segments)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    assert after < before


def test_scores_and_generates(model: Decoder) -> None:
    row = ids_of(1, 12)
    expected = model(row).log_softmax(-1)[0, :-1].gather(1, row[0, 1:, None])[:, 0]
    np.testing.assert_allclose(
        model.token_logprobs([row[0].tolist()])[0], expected.detach().numpy(), atol=1e-5
    )
    assert len(generate(model, [1, 2], 5, temperature=0)) == 5


@pytest.mark.parametrize("tied", [True, False])
def test_saved_and_loaded(make_model: MakeModel, tmp_path: Path, tied: bool) -> None:
    model = make_model(**RELATIVE, tie_embeddings=tied)
    save_model(model, tmp_path / "one", shard_bytes=50_000)
    again = load_model(tmp_path / "one")
    assert again.config == model.config
    assert torch.equal(again(ids_of(2, 9)), model(ids_of(2, 9)))


def test_other_families_folders_cannot_hold_it(make_model: MakeModel, tmp_path: Path) -> None:
    for family in (
        "llama",
        "gpt2",
        "bloom",
        "falcon",
        "mpt",
        "opt",
        "gpt_neox",
        "starcoder",
        "gpt1",
        "qwen2",
        "mistral",
    ):
        with pytest.raises(ArrieroError, match="cannot hold"):
            save_model(make_model(**{**RELATIVE, "family": family}), tmp_path / family)
    with pytest.raises(ArrieroError, match="as many key heads as query heads"):
        save_model(make_model(**{**RELATIVE, "n_kv_heads": 2}), tmp_path / "grouped")


def test_traced_without_memory() -> None:
    config = DecoderConfig.model_validate({**get_preset("gopher-417m").config.model_dump(), "n_layers": 2})
    with FakeTensorMode():
        model = Decoder(config)
        model.init_weights(0)
        ids = torch.zeros(2, 200, dtype=torch.int64)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(ids, segments=torch.zeros_like(ids)).float().sum() + model(ids).float().sum()
        loss.backward()
        assert model.blocks[0].attention.r_proj.weight.grad is not None
