from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.compression.rounding import quantize_model, round_weight
from arriero.errors import ArrieroError
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme

schemes = st.sampled_from([WeightScheme(8), WeightScheme(4), WeightScheme(4, 8), WeightScheme(4, 16)])


def random_weight(rows: int, groups: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(rows, 16 * groups, generator=generator)
    return normal * spread * torch.rand(rows, 1, generator=generator)


def expand(scale: torch.Tensor, columns: int) -> torch.Tensor:
    return scale.float().repeat_interleave(columns // scale.shape[1], dim=1)


@settings(deadline=None)
@given(schemes, st.integers(1, 5), st.integers(1, 4), st.integers(0, 99), st.sampled_from([1e-6, 1.0, 1e4]))
def test_error_is_at_most_half_a_step_where_nothing_is_clipped(
    scheme: WeightScheme, rows: int, groups: int, seed: int, spread: float
) -> None:
    weight = random_weight(rows, groups, seed, spread)
    rounded = round_weight(weight, scheme, torch.float32)
    scale = expand(rounded.scale, weight.shape[1])
    error = (rounded.codes.float() * scale - weight).abs()
    low, high = (-scheme.largest - 1) * scale, scheme.largest * scale
    inside = (weight >= low) & (weight <= high)
    assert (error <= scale / 2 * (1 + 1e-4) + 1e-12)[inside].all()
    ends = (rounded.codes == scheme.largest) | (rounded.codes == -scheme.largest - 1)
    assert ends[~inside].all()
    assert rounded.relative_error == pytest.approx(
        (error.square().sum() / weight.square().sum()).sqrt().item(), rel=1e-3
    )


@settings(deadline=None)
@given(schemes, st.integers(0, 99))
def test_searched_clip_is_never_worse_than_none(scheme: WeightScheme, seed: int) -> None:
    weight = random_weight(4, 3, seed)
    rounded = round_weight(weight, scheme, torch.float32)
    groups = weight.view(4, rounded.scale.shape[1], -1)
    scale = groups.abs().amax(2, keepdim=True) / scheme.largest
    plain = ((groups / scale).round() * scale - groups).square().sum(2)
    searched = (rounded.codes.view_as(groups) * rounded.scale.unsqueeze(2) - groups).square().sum(2)
    assert (searched <= plain * (1 + 1e-4) + 1e-12).all()


def test_codes_fit_the_scale_as_it_is_stored() -> None:
    weight = random_weight(8, 4, 3)
    rounded = round_weight(weight, WeightScheme(8), torch.bfloat16)
    assert rounded.scale.dtype == torch.bfloat16
    nearest = (weight / rounded.scale.float()).round().clamp(-128, 127)
    assert torch.equal(rounded.codes.float(), nearest)


def test_zero_weights_stay_zero() -> None:
    rounded = round_weight(torch.zeros(3, 16), WeightScheme(4, 8), torch.bfloat16)
    assert rounded.codes.abs().max() == 0 and rounded.relative_error == 0 and rounded.scale.isfinite().all()


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = random_weight(13, 4, 3)
    whole = round_weight(weight, WeightScheme(4, 16), torch.float32)
    monkeypatch.setattr("arriero.compression.rounding.WEIGHTS_PER_BLOCK", 5 * weight.shape[1])
    parts = round_weight(weight, WeightScheme(4, 16), torch.float32)
    assert torch.equal(whole.codes, parts.codes) and torch.equal(whole.scale, parts.scale)
    assert whole.relative_error == pytest.approx(parts.relative_error)


def test_weights_that_are_not_finite_are_refused() -> None:
    weight = torch.ones(2, 16)
    weight[1, 3] = torch.nan
    with pytest.raises(ArrieroError, match=r"blocks\.0\.x has weights that are not finite"):
        round_weight(weight, WeightScheme(8), torch.float32, where="blocks.0.x")


@pytest.mark.parametrize(("scheme", "within"), [(WeightScheme(8), 0.01), (WeightScheme(4, 32), 0.12)])
def test_model_keeps_its_function(scheme: WeightScheme, within: float) -> None:
    config = DecoderConfig(
        vocab_size=101,
        d_model=64,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        d_ff=128,
        context_length=32,
        init_std=0.1,
    )
    model = Decoder(config).eval()
    model.init_weights(0)
    ids = torch.randint(0, 101, (2, 20), generator=torch.Generator().manual_seed(1))
    calls: list[tuple[int, int]] = []
    with torch.no_grad():
        before = model(ids)
        errors = quantize_model(
            model, scheme, torch.bfloat16, lambda done, total: calls.append((done, total))
        )
        change = ((model(ids) - before).norm() / before.norm()).item()
    assert 0 < change < 2 * within
    assert set(errors) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(0 < error < within for error in errors.values())
    assert sum(isinstance(m, QuantizedLinear) for m in model.modules()) == 14 == len(calls)
    counts = config.parameter_counts()
    assert calls[-1] == (counts["attention"] + counts["feed_forward"],) * 2
