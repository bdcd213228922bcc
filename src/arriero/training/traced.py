"""The real training step on fake tensors: same model, same objective, same optimizer, no memory, no arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from arriero.cost.device import DeviceProfile
from arriero.cost.roofline import seconds
from arriero.cost.trace import trace_parts
from arriero.models.checkpoint import build_model
from arriero.models.config import ModelConfig
from arriero.models.decoder import by_document
from arriero.models.decoder_config import DecoderConfig
from arriero.models.encoder_config import EncoderConfig
from arriero.models.layers.attention import EXPLICIT_LENGTH
from arriero.models.layers.documents import Documents
from arriero.models.layers.explicit_attention import causal_pairs
from arriero.products import traced_here
from arriero.training.ema import WeightAverage
from arriero.training.evaluation import loss_without_gradient
from arriero.training.objectives.base import Batch, Objective, Shape
from arriero.training.objectives.head import head_parameters
from arriero.training.optimizers.clipping import clip_gradients
from arriero.training.optimizers.make import make_optimizer
from arriero.training.precision import Precision
from arriero.training.recompute import check_recompute, wrap_blocks
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate

_WHOLE = 8
"""Models of up to so many blocks (or recurrent layers) are traced whole; deeper ones at 3 and 4 blocks (at 1 and 2 where only FLOPs are
asked for), the rest on the straight line through these. Every figure is linear in the number of equal blocks, the
peak from the point on where the blocks' activations outweigh the head's logits."""


@dataclass(frozen=True)
class Work:
    """What is trained, said so that it can be built on fake tensors.

    Attributes:
        objective: its losses are used, not its samples.
        adapt: what is done to the model before training (adapters).
    """

    config: ModelConfig
    objective: Objective
    settings: TrainSettings
    precision: Precision
    adapt: Callable[[Any], object] = lambda model: None


@dataclass(frozen=True)
class Figures:
    """Seconds, FLOPs, most live bytes, and bytes that live throughout. Without a device only the FLOPs are exact."""

    seconds: float
    flops: float
    peak_bytes: float
    state_bytes: float

    def along(self, other: Figures, factor: float) -> Figures:
        """``self + factor * other``, figure by figure."""
        return Figures(
            self.seconds + factor * other.seconds, self.flops + factor * other.flops,
            self.peak_bytes + factor * other.peak_bytes, self.state_bytes + factor * other.state_bytes,
        )  # fmt: skip


def step_figures(work: Work, shapes: Sequence[Shape], device: DeviceProfile | None) -> Figures:
    """Micro-batches of these shapes, clipping and the optimizer's update."""
    return _by_depth(work, shapes, [lambda state: take_step(work, state)], device)[0]


def take_step(work: Work, state: list[Any], between: Callable[[], object] = lambda: None) -> None:
    """One step on what :func:`step_state` made; ``between`` is called between the last backward pass and the update."""
    model, optimizer, average, *batches = state
    weight = sum(work.objective.weight(batch) for batch in batches)
    accumulate(model, work.objective, batches, weight, work.precision)
    between()
    trained = [p for p in model.parameters() if p.requires_grad]
    clip_gradients(trained, work.settings.grad_clip, optimizer)
    optimizer.step()
    average.update(1)
    optimizer.zero_grad(set_to_none=True)


def step_state(work: Work, config: ModelConfig, shapes: Sequence[Shape]) -> list[Any]:
    """Model of this configuration, optimizer, weights' average, and empty batches of these shapes."""
    model = build_model(config)
    work.adapt(model)
    head_parameters(model)  # found once in a run, so not a part of the step
    check_recompute(model, work.settings.activation_checkpointing, work.precision != "fp32")
    wrap_blocks(model, work.settings.activation_checkpointing)
    optimizer = make_optimizer(model, work.settings)
    trained = [p for p in model.parameters() if p.requires_grad]
    average = WeightAverage(trained, optimizer, work.settings.ema_decay)
    # no tensor of optimizer.state hides from the tracker: they are made here, under it
    return [model, optimizer, average, *(work.objective.synthetic(shape) for shape in shapes)]


def gradient_flops(work: Work, *shapes: Shape) -> list[float]:
    """Arithmetic of micro-batches forward and backward, of each by itself."""
    return _each_flops(work, shapes, _gradients)


def _gradients(work: Work, model: Any, batch: Batch) -> None:
    accumulate(model, work.objective, [batch], work.objective.weight(batch), work.precision)


def evaluation_flops(work: Work, *shapes: Shape) -> list[float]:
    """Arithmetic of micro-batches without gradients, of each by itself."""
    return _each_flops(work, shapes, _losses)


def _losses(work: Work, model: Any, batch: Batch) -> None:
    loss_without_gradient(model, work.objective, batch, work.precision)


def _each_flops(
    work: Work, shapes: Sequence[Shape], run: Callable[[Work, Any, Batch], None]
) -> list[float]:  # fmt: skip
    def numbered(number: int) -> Callable[[list[Any]], None]:
        return lambda state: run(work, state[0], state[3 + number])

    runs = [numbered(number) for number in range(len(shapes))]
    return [found.flops for found in _by_depth(work, shapes, runs, None)]


def update_flops(work: Work) -> float:
    """Arithmetic of one update by the optimizer: Muon's products; the others have none."""
    if work.settings.optimizer != "muon":
        return 0.0

    def run(state: list[Any]) -> None:
        model, optimizer, *_ = state
        for p in model.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None
        optimizer.step()

    return _by_depth(work, [], [run], None)[0].flops


def evaluation_figures(work: Work, shape: Shape, device: DeviceProfile | None) -> Figures:
    """One micro-batch without gradients."""
    return _by_depth(work, [shape], [lambda state: _losses(work, state[0], state[3])], device)[0]


def _by_depth(
    work: Work, shapes: Sequence[Shape], runs: Sequence[Callable[[list[Any]], None]], device: DeviceProfile | None
) -> list[Figures]:  # fmt: skip
    """Figures of each of the runs over one state. Where memory is asked for, of one run: its state should be its own."""
    layers, low = getattr(work.config, "n_layers", 1), 3 if device else 1
    if layers <= (_WHOLE if device else 2):
        return _figures(work, work.config, shapes, runs, device)
    depths = (work.config.model_copy(update={"n_layers": n}) for n in (low, low + 1))
    shallow, deep = (_figures(work, config, shapes, runs, device) for config in depths)
    pairs = zip(shallow, deep, strict=True)
    return [one.along(more.along(one, -1.0), layers - low) for one, more in pairs]


def _figures(
    work: Work, config: ModelConfig, shapes: Sequence[Shape], runs: Sequence[Callable[[list[Any]], None]],
    device: DeviceProfile | None,
) -> list[Figures]:  # fmt: skip
    with traced_here():
        found = trace_parts(lambda: step_state(work, config, shapes), *runs)
    return [
        Figures(seconds(one, device) if device else 0.0, one.flops, one.peak_bytes, one.state_bytes)
        for one in found
    ]


def pairs_of(length: int, precision: Precision) -> int:
    """Pairs of queries and keys that a causal attention over ``length`` tokens works out in training."""
    short = precision != "fp32" and length <= EXPLICIT_LENGTH
    return causal_pairs(length) if short else length**2


class TracedFlops:
    """Arithmetic of any batch, from a handful of traces (see ``loop.FlopCount``).

    A batch of B rows of T tokens with S scored ones takes a B T + b B T² + c S, exactly; the three factors come
    from three traces, once for each way in which attention is worked out (short rows in bf16 have their own, which
    in place of T² takes ``pairs_of`` it).
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._factors: dict[tuple[bool, bool], tuple[float, float, float]] = {}
        self._update: float | None = None

    def training(self, batch: Batch) -> float:
        return self._count(batch, True)

    def evaluation(self, batch: Batch) -> float:
        return self._count(batch, False)

    def update(self) -> float:
        if self._update is None:
            self._update = update_flops(self._work)
        return self._update

    def _count(self, batch: Batch, train: bool) -> float:
        rows, length = batch.ids.shape
        if isinstance(self._work.config, EncoderConfig):  # packed rows may be longer than the context
            rows, length = batch.shape.rows, batch.shape.length
        scored = batch.targets.shape[0]
        short = length <= EXPLICIT_LENGTH
        if (short, train) not in self._factors:
            self._factors[short, train] = self._solve(short, train, batch.segments is not None)
        linear, square, head = self._factors[short, train]
        extra = self._work.objective.head_recomputed(scored, self._work.config.vocab_size) if train else 0
        return (
            rows * length * linear
            + self._pairs(batch, rows, length) * square
            + scored * head * (1 + extra / 3)
        )

    def _pairs(self, batch: Batch, rows: int, length: int) -> int:
        """Pairs of queries and keys that are worked out, in what is attended at once: documents, or whole rows."""
        config, dtype = self._work.config, torch.float32 if self._work.precision == "fp32" else torch.bfloat16
        lengths: Sequence[int] = (length,) * rows
        if not isinstance(config, DecoderConfig) or config.positions == "relative":
            return rows * length**2
        if batch.segments is not None and by_document(config, length, dtype):
            documents = Documents.of(batch.segments)
            lengths = lengths if documents is None else documents.lengths
        return sum(pairs_of(n, self._work.precision) for n in lengths)

    def _solve(self, short: bool, train: bool, masked: bool) -> tuple[float, float, float]:
        unit = 8 if short else EXPLICIT_LENGTH
        longest = getattr(self._work.config, "context_length", None) or 4 * unit  # None: no longest sequence
        near, far = (
            (min(longest, 2 * unit), min(longest, 4 * unit)) if longest >= 2 * unit else (longest, longest)
        )
        asked = [Shape(2, near, 2, masked), Shape(2, near, 4, masked), Shape(2, far, 2, masked)]
        flops = gradient_flops if train else evaluation_flops
        one, more, *rest = flops(self._work, *asked[: 2 if far == near else 3])
        head = (more - one) / 2
        body = (one - 2 * head) / (2 * near)
        if far == near:
            return body, 0.0, head
        far_body = (rest[0] - 2 * head) / (2 * far)
        square = (far_body - body) / (far - near)
        return body - square * near, square, head
