from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arriero.errors import ArrieroError
from arriero.training.health.corruption import Work, accumulate_checked, bits
from arriero.training.health.settings import HealthSettings
from arriero.training.loop import train
from arriero.training.objectives.causal import CausalObjective
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate

Make = Callable[..., Any]


class Flip:
    """Flips one bit of a layer's output in the calls with these numbers."""

    def __init__(self, module: torch.nn.Module, calls: set[int], bit: int) -> None:
        self.calls, self.bit, self.count = calls, bit, 0
        self.handle = module.register_forward_hook(self)

    def __call__(self, module: torch.nn.Module, given: object, output: torch.Tensor) -> torch.Tensor | None:
        self.count += 1
        if self.count not in self.calls:
            return None
        changed = output.detach().clone()
        changed.view(-1).view(torch.int32)[7] ^= 1 << self.bit
        return output + (changed - output.detach())


def batches(objective: Any, parts: list[list[int]]) -> list[Any]:
    return [objective.batch(part) for part in parts]


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("bit", [0, 1, 12, 22, 23, 30, 31])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_flipped_bit_changes_the_sum(bit: int, dtype: torch.dtype) -> None:
    tensor = torch.randn(37, 5).to(dtype)
    before = bits(tensor)
    whole = tensor.view(torch.uint8).view(-1)
    whole[bit * 7 % whole.numel()] ^= 1 << (bit % 8)
    assert bits(tensor) != before


@pytest.mark.parametrize("chosen", [0, 2])
def test_a_sound_machine_gets_the_gradient_of_the_same_micro_batches(
    make_model: Make, rows: list[Row], chosen: int
) -> None:
    """With dropout: the second computation draws what the first drew, and later ones are not disturbed."""
    objective = SftObjective(rows)
    parts = batches(objective, [[0, 1, 2], [3, 4], [5], [6, 7]])
    order = [parts[chosen], *parts[:chosen], *parts[chosen + 1 :]]
    found, said = [], []
    for checked in (False, True):
        model = make_model(dropout=0.2).train()
        torch.manual_seed(1)
        work = Work(model, objective, 50, "fp32")
        sums = (
            accumulate_checked(work, parts, chosen, said.append)
            if checked
            else accumulate(model, objective, order, 50, "fp32")
        )
        found.append(({**gradients(model), **sums}, torch.get_rng_state()))
    assert not said
    assert all(torch.equal(found[0][0][name], value) for name, value in found[1][0].items())
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize(
    "bit", [14, 20, 27]
)  # lower ones can be lost in the rounding of the sum that follows
def test_a_flipped_bit_is_found_and_outvoted(
    make_model: Make, causal: CausalObjective, call: int, bit: int
) -> None:
    """Whichever of the two computations it hits, the gradient that is used is the right one."""
    right, model = make_model(), make_model()
    parts = batches(causal, [[0, 1], [2, 3]])
    accumulate(right, causal, parts, 96, "fp32")
    Flip(model.blocks[0].feed_forward.down_proj, {call}, bit)
    said: list[str] = []
    accumulate_checked(Work(model, causal, 96, "fp32"), parts, 0, said.append)
    assert "differs in" in said[0] and "two computations of three agree" in said[-1]
    assert all(torch.equal(value, gradients(right)[name]) for name, value in gradients(model).items())


def test_a_machine_that_never_says_the_same_is_refused(make_model: Make, causal: CausalObjective) -> None:
    model = make_model()
    Flip(model.blocks[0].feed_forward.down_proj, {1}, 10)
    Flip(model.blocks[1].feed_forward.down_proj, {2}, 12)
    with pytest.raises(ArrieroError, match="three results"):
        accumulate_checked(Work(model, causal, 96, "fp32"), batches(causal, [[0, 1]]), 0, lambda line: None)


def test_the_loop_finds_it_and_ends_with_the_bits_of_a_sound_run(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    settings = TrainSettings(
        duration="12 steps", batch_size=6, micro_batch_size=3, health=HealthSettings(recompute_every=4)
    )
    sound, struck, context = make_model(), make_model(), make_context()
    train(sound, causal, settings, make_context(), arithmetic=fp32)
    # 2 calls a step and one more in steps 4 and 8: call 18 is the second computation of step 8's micro-batch
    flip = Flip(struck.blocks[1].feed_forward.down_proj, {17}, 15)
    result = train(struck, causal, settings, context, arithmetic=fp32)
    flip.handle.remove()
    assert any("step 8: silent data corruption" in line for line in context.said)
    assert [event["event"] for event in result.totals.events] == ["corruption", "corruption"]
    assert all(torch.equal(p, q) for p, q in zip(sound.parameters(), struck.parameters(), strict=True))
