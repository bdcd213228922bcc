"""What planning says of a benchmark's levels, so that the measured figures stand beside the predicted ones."""

from __future__ import annotations

from arriero.cost.quantity import Quantity
from arriero.cost.tariffs import Tariffs
from arriero.cost.time.tiers import banded
from arriero.cost.workload import Dtype
from arriero.planning.estimate.coefficients import serving_coefficients
from arriero.planning.estimate.device_source import find_device
from arriero.planning.estimate.model_source import find_model
from arriero.planning.serving.held import held_of
from arriero.planning.serving.speeds import Service
from arriero.planning.serving.trial import trial_here
from arriero.planning.serving.workload import decoding_workload
from arriero.serving.bench import PlannedSpeeds, Planner

_CONTEXT = 2048
"""Most tokens of the pass that the counts are taken from; the formulas go to other lengths from there."""


def planner_for(model: str) -> Planner:
    """A function from prompt tokens, answer tokens and requests at a time to the speeds on this machine.

    A level's tokens a second are those of ``batch`` requests that start together: their prompts one after the other,
    then a step for each token of the answer, half-way through it on average.

    Raises:
        ArrieroError: no such model, not a decoder, or this machine was never calibrated.
    """
    source = find_model(model)
    device = find_device(None, Tariffs.load())
    assert device.profile is not None, "this machine, which was measured"
    held = held_of(model, None, device.profile)
    dtype: Dtype = "fp32" if held == "fp32" else "bf16"
    context = min(source.longest or _CONTEXT, _CONTEXT)
    workload = decoding_workload(source.config, context=context, dtype=dtype, weights=held, name=model)
    coefficients = serving_coefficients(device, dtype, workload)
    trial = trial_here(device, source, held)

    def plan(prompt: int, answer: int, batch: int) -> PlannedSpeeds:
        service = Service(workload, coefficients, 1, prompt, answer, batch, None, 0.0, trial)
        first, token = banded(service.first_token(), service.basis), banded(service.token(), service.basis)
        return PlannedSpeeds(first, token, _together(first, token, answer, batch))

    return plan


def _together(first: Quantity, token: Quantity, answer: int, batch: int) -> Quantity:
    """Tokens a second of ``batch`` requests; the prompt's pass gives the first token of each."""
    if first.value is None or token.value is None:
        return Quantity.unknown("tokens/s", first.source or token.source)
    ends = [(first.value, token.value), (first.low, token.low), (first.high, token.high)]
    value, most, least = (batch * answer / (batch * f + (answer - 1) * t) for f, t in ends if f and t)
    return Quantity(value=value, low=least, high=most, unit="tokens/s", basis="modelled", source=token.source)
