from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from arriero.errors import ArrieroError
from arriero.models import scoring
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.attention import attend
from arriero.models.layers.masks import segment_mask, segment_positions
from arriero.models.layers.norm import RMSNorm
from arriero.models.layers.rotary import Rotary, rotate
from arriero.models.protocol import LanguageModel

MakeModel = Callable[..., Decoder]


def random_ids(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 97, shape, generator=torch.Generator().manual_seed(seed))


def published(**changes: Any) -> DecoderConfig:
    return DecoderConfig.model_validate(
        {"n_heads": 32, "n_kv_heads": 8, "context_length": 8192, "vocab_size": 128256, **changes}
    )


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (published(d_model=4096, n_layers=32, d_ff=14336, tie_embeddings=False), 8_030_261_248),  # Llama 3 8B
        (published(d_model=2048, n_layers=16, d_ff=8192, tie_embeddings=True), 1_235_814_400),  # Llama 3.2 1B
    ],
)
def test_parameters_of_published_models_to_the_digit(config: DecoderConfig, parameters: int) -> None:
    with torch.device("meta"):
        model = Decoder(config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(model.parameter_counts().values()) == parameters


def test_counts_by_part(make_model: MakeModel) -> None:
    model = make_model(tie_embeddings=False)
    by_part = {"embedding": 0, "attention": 0, "feed_forward": 0, "norm": 0, "head": 0}
    for name, parameter in model.named_parameters():
        part = next(p for p in ("embedding", "head", "norm", "attention", "feed_forward") if p in name)
        by_part[part] += parameter.numel()
    assert model.parameter_counts() == by_part
    assert isinstance(model, LanguageModel)


def test_drawn_weights(make_model: MakeModel) -> None:
    one, two, other = make_model(seed=3), make_model(seed=3), make_model(seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.embedding.weight, other.embedding.weight)
    assert one.embedding.weight.std().item() == pytest.approx(0.2, rel=0.05)
    assert one.blocks[0].attention.q_proj.weight.std().item() == pytest.approx(0.2, rel=0.1)
    assert one.blocks[1].feed_forward.down_proj.weight.std().item() == pytest.approx(
        0.2 / math.sqrt(4), rel=0.1
    )
    assert torch.equal(one.norm.weight, torch.ones(48))


def test_drawing_weights_leaves_the_global_generator_alone(make_model: MakeModel) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    make_model()
    assert torch.equal(torch.rand(1), expected)


def test_later_tokens_change_nothing_before(make_model: MakeModel) -> None:
    model, ids = make_model(), random_ids(2, 30)
    changed = ids.clone()
    changed[:, 20:] = random_ids(2, 10, seed=9)
    a, b = model(ids), model(changed)
    assert torch.allclose(a[:, :20], b[:, :20], atol=1e-5)
    assert not torch.allclose(a[:, 20:], b[:, 20:], atol=1e-2)


@pytest.mark.parametrize("autocast", [False, True])
def test_packed_documents_are_as_if_alone(make_model: MakeModel, autocast: bool) -> None:
    model, ids = make_model(), random_ids(2, 40)
    segments = torch.tensor([[4] * 11 + [5] * 20 + [-1] * 9, [0] * 25 + [7] * 15])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        packed = model(ids, segments=segments)
        assert not packed.isnan().any()
        for row, start, stop in ((0, 0, 11), (0, 11, 31), (1, 0, 25), (1, 25, 40)):
            alone = model(ids[row : row + 1, start:stop])[0]
            assert (packed[row, start:stop] - alone).abs().max() <= (
                0.1 if autocast else 1e-5
            ) * alone.abs().max()


def test_gradient_does_not_leak_between_documents(make_model: MakeModel) -> None:
    model = make_model()
    table = model.embedding.weight
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    hidden = model.hidden(ids, segments=torch.tensor([[0, 0, 0, 1, 1, -1]]))
    (gradient,) = torch.autograd.grad(hidden[0, 4].sum(), table)
    assert gradient[[1, 2, 3, 6]].abs().max() == 0 and gradient[4].abs().max() > 0
    assert not gradient.isnan().any()


def test_positions_and_masks_of_segments() -> None:
    segments = torch.tensor([[0, 0, 1, 1, 1, -1], [3, 3, 3, 3, 3, 3]])
    assert segment_positions(segments).tolist() == [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5]]
    allowed = (segment_mask(segments, torch.float32) == 0).squeeze(1)
    assert allowed[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert torch.equal(allowed[1], torch.ones(6, 6).tril().bool())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_its_definition(dtype: torch.dtype, kv_heads: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, h, 9, 6, generator=generator).to(dtype) for h in (4, kv_heads, kv_heads))
    allowed = torch.ones(9, 9).tril().bool().expand(2, 9, 9)
    mask = None
    if masked:
        segments = torch.tensor([[0] * 4 + [1] * 5, [0] * 8 + [-1]])
        mask = segment_mask(segments, dtype)
        allowed = (mask == 0).squeeze(1)
    expected = torch.empty(2, 4, 9, 6)
    for head in range(4):
        key, value = (t[:, head // (4 // kv_heads)].float() for t in (k, v))
        scores = (q[:, head].float() @ key.transpose(1, 2) / math.sqrt(6)).masked_fill(~allowed, -math.inf)
        expected[:, head] = scores.softmax(-1) @ value
    assert torch.allclose(
        attend(q, k, v, mask).float(), expected, atol=1e-5 if dtype == torch.float32 else 0.03
    )


def test_norm_and_its_gradient() -> None:
    norm = RMSNorm(16, 1e-5)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=generator)
    x = torch.randn(3, 5, 16, generator=generator, requires_grad=True)
    upstream = torch.randn(3, 5, 16, generator=generator)
    expected = F.rms_norm(x, (16,), norm.weight, 1e-5)
    assert torch.allclose(norm(x), expected, atol=1e-6)
    mine = torch.autograd.grad(norm(x), (x, norm.weight), upstream)
    theirs = torch.autograd.grad(expected, (x, norm.weight), upstream)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_rotation_against_complex_numbers_and_its_gradient() -> None:
    rotary = Rotary(width=8, context_length=20, theta=100.0)
    positions = torch.tensor([[3, 4, 5], [0, 19, 7]])
    x = torch.randn(
        2, 4, 3, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float32, requires_grad=True
    )
    turned = rotate(x, *rotary(3, positions))
    angle = positions[:, None, :, None] * 100.0 ** -(torch.arange(4) / 4)
    expected = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(()), angle)
    assert torch.allclose(turned, torch.cat([expected.real, expected.imag], -1), atol=1e-5)
    upstream = torch.randn(2, 4, 3, 8, generator=torch.Generator().manual_seed(2))
    (mine,) = torch.autograd.grad(turned, x, upstream)
    (theirs,) = torch.autograd.grad(torch.cat([expected.real, expected.imag], -1), x, upstream)
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_angles_stay_float32_when_the_model_is_cast(make_model: MakeModel) -> None:
    model = make_model()
    exact = model.rotary.cos.clone()
    model.to(torch.bfloat16)
    assert model.embedding.weight.dtype == torch.bfloat16
    assert torch.equal(model.rotary.cos, exact)
    assert "rotary.cos" not in model.state_dict()


def test_too_long_for_the_context(make_model: MakeModel) -> None:
    with pytest.raises(ArrieroError, match="65 tokens are more than the model's context of 64"):
        make_model()(random_ids(1, 65))


@pytest.mark.parametrize("autocast", [False, True])
def test_training_step_can_be_traced_without_memory(autocast: bool) -> None:
    with FakeTensorMode():
        model = Decoder(published(d_model=2048, n_layers=2, d_ff=8192, tie_embeddings=True))
        model.init_weights(0)
        ids = torch.zeros(2, 300, dtype=torch.int64)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(ids, segments=torch.zeros_like(ids)).float().sum() + model(ids).float().sum()
        loss.backward()
        assert model.embedding.weight.grad is not None


class GrowingCache:
    """The least that decoding needs: keep what came, attend over all of it."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: object = None) -> Tensor:
        assert rule is None
        if layer in self.kept:
            k, v = torch.cat([self.kept[layer][0], k], 2), torch.cat([self.kept[layer][1], v], 2)
        self.kept[layer] = k, v
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)


def test_cached_equals_uncached(make_model: MakeModel) -> None:
    model, ids, cache = make_model(), random_ids(2, 20), GrowingCache()
    parts = [
        model(ids[:, a:b], positions=torch.arange(a, b).expand(2, -1), cache=cache)
        for a, b in ((0, 7), (7, 8), (8, 19), (19, 20))
    ]
    assert torch.allclose(torch.cat(parts, 1), model(ids), atol=1e-5)


def test_token_logprobs(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "TOKENS_PER_BATCH", 64)
    monkeypatch.setattr(scoring, "LOGITS_PER_CHUNK", 97 * 7)
    model = make_model().train()
    lengths = [1, 9, 0, 40, 2, 64, 9, 23]
    sequences = [random_ids(n, seed=n).tolist() for n in lengths]
    results = model.token_logprobs(sequences)
    assert model.training
    for ids, values in zip(sequences, results, strict=True):
        assert values.dtype == np.float64 and len(values) == max(0, len(ids) - 1)
        if len(ids) > 1:
            logprobs = model(torch.tensor([ids])).log_softmax(-1)[0]
            expected = [logprobs[t - 1, ids[t]].item() for t in range(1, len(ids))]
            np.testing.assert_allclose(values, expected, atol=1e-4)


def test_token_logprobs_refuses_what_it_cannot_score(make_model: MakeModel) -> None:
    with pytest.raises(ArrieroError, match="sequence 1 has 65 tokens"):
        make_model().token_logprobs([[1], [1] * 65])
    with pytest.raises(ArrieroError, match="outside the vocabulary of 97"):
        make_model().token_logprobs([[1, 97]])
