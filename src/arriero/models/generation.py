"""A few tokens from any causal model, for trying it out. Decoders are served by the engine, which is far faster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.carrying import CarryingModel
from arriero.models.decoder import Decoder
from arriero.models.ngram import NGram


def generate(
    model: Any,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    end_ids: Collection[int] = (),
) -> list[int]:
    """Token ids that the model puts after ``prompt``, at most ``max_tokens``, up to one of ``end_ids`` (left out).

    Args:
        model: an n-gram, a feed-forward or recurrent net, or a decoder.
        temperature: of the distribution that is drawn from; 0 takes the most probable token.

    Raises:
        ArrieroError: an empty prompt, or a model that does not go from left to right.
    """
    if not prompt:
        raise ArrieroError(
            "generation needs a prompt of at least one token (the document's first, for example)"
        )
    if temperature < 0:
        raise ArrieroError(f"temperature {temperature} is below 0")
    step = _stepper(model)
    rng, ids = np.random.default_rng(seed), list(prompt)
    for _ in range(max_tokens):
        chosen = _choose(step(ids), temperature, rng)
        if chosen in end_ids:
            break
        ids.append(chosen)
    return ids[len(prompt) :]


def _choose(logprobs: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    if temperature == 0:
        return int(logprobs.argmax())
    scaled = logprobs / temperature
    weights = np.exp(scaled - scaled.max())
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def _stepper(model: Any) -> Callable[[Sequence[int]], np.ndarray]:
    """A function from all ids so far to the log-probabilities [V] of the next, float64."""
    if isinstance(model, NGram):
        return lambda ids: _logs(model.distribution(ids[-model.order :]))
    if isinstance(model, CarryingModel):
        return _Carried(model)
    if isinstance(model, Decoder):
        return lambda ids: _last(model, ids)
    raise ArrieroError(f"a {type(model).__name__} does not generate from left to right")


class _Carried:
    """Steps of a network that carries a state: the prompt once, then one token at a time."""

    def __init__(self, model: CarryingModel) -> None:
        self._model = model.eval()
        self._state: Any = None
        self._done = 0

    @torch.inference_mode()
    def __call__(self, ids: Sequence[int]) -> np.ndarray:
        new = torch.tensor([list(ids[self._done :])])
        hidden, self._state = self._model.hidden_with_state(new, self._state)
        self._done = len(ids)
        return _logprobs(self._model.logits(hidden[:, -1]))


def _logs(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # without smoothing there are probabilities of 0
        found: np.ndarray = np.log(probabilities)
    return found


@torch.inference_mode()
def _last(model: Decoder, ids: Sequence[int]) -> np.ndarray:
    window = list(ids[-model.config.context_length :])
    return _logprobs(model.eval().logits(model.hidden(torch.tensor([window]))[:, -1]))


def _logprobs(logits: Tensor) -> np.ndarray:
    found: np.ndarray = torch.log_softmax(logits[0].double(), dim=-1).numpy()
    return found
