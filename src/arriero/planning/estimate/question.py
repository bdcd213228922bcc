"""What `arriero estimate` was asked about a training run, with everything that was left open filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from arriero.cost.hardware.table import Hardware
from arriero.cost.workload import Dtype, Recompute, Workload
from arriero.errors import ArrieroError
from arriero.planning.counts.subject import Held
from arriero.planning.estimate.model_source import ModelSource

Precision = Literal["bf16", "fp16", "fp32", "fp8"]
_USUAL_CONTEXT = 8192
FINE_TUNING_BATCH = 128
"""Sequences of a step, where a model that exists is trained on and nobody says."""
TOKENS_A_PARAMETER = 20
"""Where a question names no tokens: the ratio of Hoffmann et al. (arXiv 2203.15556) and of its corrected fit."""


@dataclass(frozen=True)
class Question:
    """A training run that nobody has written a recipe for; None leaves a thing to Arriero.

    Attributes:
        model: preset, folder or file. tokens: of the whole run. hardware: a device's name; None: this machine.
        parallel: layout in words. batch_tokens: of one step over all devices.
        weights: how they are held. answer: tokens that are written, of the context, where a method writes (half of it).
        group: answers to a prompt. teacher: the model that distillation learns from. tariffs: overrides, see `cost.tariffs.KEYS`.
    """

    model: str
    tokens: float | None = None
    hardware: str | None = None
    count: int = 1
    parallel: str | None = None
    zero: int | None = None
    precision: Precision | None = None
    context: float | None = None
    micro_batch: int | None = None
    batch_tokens: float | None = None
    recompute: Recompute | None = None
    objective: str | None = None
    lora_rank: int = 0
    weights: Held | None = None
    optimizer: str = "adamw"
    answer: float | None = None
    group: int = 8
    teacher: str | None = None
    water: bool = False
    tariffs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def from_scratch(self) -> bool:
        """Pre-training, where nothing says that the model exists."""
        return not self.lora_rank and self.objective in (None, "auto", "causal", "masked", "seq2seq")

    @property
    def held(self) -> Held:
        """How weights are held: as asked; in 16 bits under adapters, else in 32, as the training stages do on a processor."""
        return self.weights or ("bf16" if self.lora_rank and self.hardware else "fp32")


def context_of(asked: float | None, model: ModelSource) -> int:
    """Tokens of a sequence: as asked, or the model's own up to 8,192.

    Raises:
        ArrieroError: not a whole number, or more than the model reads.
    """
    longest = model.longest
    if asked is None:
        return min(longest or _USUAL_CONTEXT, _USUAL_CONTEXT)
    if asked != int(asked):
        raise ArrieroError(f"--context {asked:g} should be a whole number of tokens")
    if longest is not None and asked > longest:
        raise ArrieroError(
            f"--context {asked:,.0f} is more than the {longest:,} tokens that {model.name} reads"
        )
    return int(asked)


def precision_of(asked: Precision | None, hardware: Hardware | None, bf16_pays: bool) -> Precision:
    """Type of the products: as asked; else bf16 where the device has it, fp16 where it has only that, else fp32.

    Raises:
        ArrieroError: this machine was asked for something that Arriero does not compute in here.
    """
    if hardware is None:
        if asked not in (None, "bf16", "fp32"):
            raise ArrieroError(f"--precision {asked}: this machine computes in fp32 and bf16")
        return asked or ("bf16" if bf16_pays else "fp32")
    if asked is not None:
        return asked
    known: tuple[Precision, ...] = ("bf16", "fp16", "fp32")
    return next((dtype for dtype in known if hardware.peak(dtype) is not None), "bf16")


def traced_dtype(precision: Precision) -> Dtype:
    """The type that bytes are counted in: fp16 takes the room of bf16."""
    return "bf16" if precision == "fp16" else precision


def check_tokens(question: Question) -> None:
    """Refuse to guess how long a model that exists is trained on.

    Raises:
        ArrieroError: no tokens were given.
    """
    if question.tokens is None and not question.from_scratch:
        raise ArrieroError("how much is there to train on? give --tokens, such as 50M")


def tokens_of(question: Question, workload: Workload) -> float:
    """Tokens of the run: as asked, else 20 for each parameter of a model that is trained from scratch."""
    return (
        question.tokens
        if question.tokens is not None
        else float(TOKENS_A_PARAMETER * workload.parameters.total)
    )
