"""Which process does what: the sizes of a layout, and what refuses a layout before anything runs. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.training.objectives.base import Objective
    from arriero.training.parallel.settings import ParallelSettings
    from arriero.training.settings import TrainSettings


@dataclass(frozen=True)
class Layout:
    """Sizes of the grid of processes [pipeline, replicas, data, context, tensor], data counted within a replica."""

    pipeline: int
    replicas: int
    data: int
    context: int
    tensor: int
    sequence: bool
    sharded: bool

    @property
    def size(self) -> int:
        return self.pipeline * self.replicas * self.data * self.context * self.tensor

    @property
    def dealt(self) -> int:
        """How many the samples of a step are dealt to."""
        return self.replicas * self.data

    @property
    def weight_parts(self) -> int:
        """Into how many parts the weights, gradients and optimizer states are cut, roughly."""
        return self.tensor * self.pipeline * (self.data * self.context if self.sharded else 1)

    @property
    def cuts(self) -> bool:
        """True where a process has only a part of the weights or of the tokens of a sequence."""
        return self.sharded or max(self.tensor, self.context, self.pipeline) > 1

    @property
    def stream_parts(self) -> int:
        """Into how many parts of its tokens the residual stream is cut over the processes of a tensor group."""
        return self.tensor if self.sequence else 1

    @property
    def length_step(self) -> int:
        """Sequences are padded to a multiple of it, so that every process has an equal share."""
        pieces = self.stream_parts
        return self.context * math.lcm(2, pieces) if self.context > 1 else pieces

    def __str__(self) -> str:
        names = ("pipeline", "replicas", "data", "context", "tensor")
        parts = [f"{name} {getattr(self, name)}" for name in names if getattr(self, name) > 1]
        return " x ".join(parts) or "one process"


def layout_of(settings: ParallelSettings, size: int) -> Layout:
    """The layout of ``size`` processes.

    Raises:
        ArrieroError: the sizes do not multiply to it.
    """
    inner = settings.model_ranks
    product = f"tensor {settings.tensor} x context {settings.context} x pipeline {settings.pipeline}"
    if size % inner:
        raise ArrieroError(f"parallel: {product} = {inner} does not divide the {size} processes there are")
    data = settings.data or size // inner
    if data * inner != size:
        raise ArrieroError(
            f"parallel: data {data} x {product} makes {data * inner} processes, not {size}; start that many: "
            f"{command(data * inner)}"
        )
    if data % settings.replicas:
        raise ArrieroError(
            f"parallel: {settings.replicas} replicas do not divide the {data} processes of data parallelism"
        )
    each = data // settings.replicas  # that a copy of the weights is cut over, with the context processes
    sharded = settings.shard == "full" and each * settings.context > 1
    return Layout(
        pipeline=settings.pipeline, replicas=settings.replicas if sharded else 1, data=each if sharded else data,
        context=settings.context, tensor=settings.tensor, sequence=settings.sequence and settings.tensor > 1,
        sharded=sharded,
    )  # fmt: skip


def command(size: int) -> str:
    """What to type to have ``size`` processes on one machine."""
    return f"torchrun --nproc-per-node {size} -m arriero run RECIPE"


def planned_size(settings: ParallelSettings, size: int) -> int:
    """Processes that a plan is made for: those that torchrun started, else as many as the settings name."""
    return size if size > 1 else max(1, settings.data) * settings.model_ranks


def check_started(settings: ParallelSettings, size: int, name: str = "") -> None:
    """
    Raises:
        ArrieroError: one process alone, and the settings name more.
    """
    wanted, where = planned_size(settings, 1), f"stage '{name}': " if name else ""
    if size == 1 and wanted > 1:
        raise ArrieroError(
            f"{where}parallel asks for {wanted} processes, but this is one; start them with: "
            f"{command(wanted)}"
        )


def check_layout(layout: Layout, config: Any, objective: Objective, settings: TrainSettings) -> None:
    """
    Raises:
        ArrieroError: the model, the objective or the optimizer cannot be cut this way; says why, and what would do.
    """
    if layout.size == 1:
        return
    if objective.ordered:
        raise ArrieroError(
            "parallel: this objective carries a state from sample to sample (streams), so its samples cannot be dealt "
            "to several processes; set stream to false, or train in one process"
        )
    for name, wanted in (("compile", settings.compile), ("precision fp8", settings.precision == "fp8")):
        if wanted and layout.cuts:
            raise ArrieroError(
                f"parallel: {name} is for whole models, which this layout cuts ({layout}); leave it out, or set shard to "
                "none and tensor, context and pipeline to 1"
            )
    for size, check in (
        (layout.tensor, _check_tensor), (layout.context, _check_context), (layout.pipeline, _check_pipeline)
    ):  # fmt: skip
        if size > 1:
            _check_decoder(config)
            check(layout, config, objective)


def _check_decoder(config: Any) -> None:
    from arriero.models.decoder_config import DecoderConfig

    if not isinstance(config, DecoderConfig):
        raise ArrieroError(
            f"parallel: the family {config.family} has no plan for tensor, context or pipeline parallelism (decoders "
            "have); use data parallelism alone"
        )
    if config.positions == "relative" or getattr(config, "top_query", False):
        raise ArrieroError(
            "parallel: relative attention and the top query layer have no plan for tensor, context or pipeline "
            "parallelism; use data parallelism alone"
        )


def _check_tensor(layout: Layout, config: Any, objective: Objective) -> None:
    from arriero.training.objectives.dpo import DpoObjective

    if not isinstance(objective, DpoObjective):  # whose losses are by token too, and then summed by answer
        _check_next_token("tensor", objective)
    sizes = {"n_heads": config.n_heads, "n_kv_heads": config.n_kv_heads, "d_ff": config.d_ff}
    if layout.sequence:
        sizes["context_length"] = config.context_length
    for name, value in sizes.items():
        if value % layout.tensor:
            raise ArrieroError(f"parallel: {name} {value} cannot be cut over tensor {layout.tensor} evenly")
    if config.vocab_size < layout.tensor**2:  # the last part of an uneven cut would be empty
        raise ArrieroError(
            f"parallel: a vocabulary of {config.vocab_size} is too small for tensor {layout.tensor}"
        )


def _check_context(layout: Layout, config: Any, objective: Objective) -> None:
    _check_next_token("context", objective)
    step = layout.length_step
    if config.context_length % step:
        raise ArrieroError(
            f"parallel: context_length {config.context_length} is not a multiple of {step}, which context "
            f"{layout.context} needs (two equal pieces for each process"
            + (f", each cut over tensor {layout.tensor})" if layout.sequence else ")")
        )
    if config.rope_scaling is not None and config.rope_scaling.kind == "dynamic":
        raise ArrieroError(
            "parallel: dynamic rotary scaling goes by the length of what a process sees, so context "
            f"{layout.context} would change the model; use another scaling or context 1"
        )


def _check_pipeline(layout: Layout, config: Any, objective: Objective) -> None:
    _check_next_token("pipeline", objective)
    if config.n_layers % layout.pipeline:
        raise ArrieroError(
            f"parallel: {config.n_layers} layers cannot be cut over pipeline {layout.pipeline} evenly"
        )


def _check_next_token(what: str, objective: Objective) -> None:
    from arriero.training.objectives.next_token import NextToken

    if getattr(type(objective), "loss_sum", None) is not NextToken.loss_sum:
        raise ArrieroError(
            f"parallel: {what} needs a loss that is a plain sum over tokens, which {type(objective).__name__} has "
            f"not; set {what} to 1"
        )
