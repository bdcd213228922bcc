"""The ways to train one model that a search may choose from: precision and method, each with its workload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from arriero.cost.search.evaluate import Offer
from arriero.cost.search.space import DeviceType, Space
from arriero.cost.workload import Dtype, Workload
from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.subject import Held
from arriero.planning.counts.workload import workload_of
from arriero.planning.estimate.layout_choice import usual_batch_tokens
from arriero.planning.goal.question import GoalQuestion

LORA_RANK = 16
_USUAL_CONTEXT = 8192
_HELD: dict[str, tuple[Held, int]] = {
    "full": ("fp32", 0),
    "lora": ("bf16", LORA_RANK),
    "qlora": ("int4", LORA_RANK),
}
"""How each method holds the weights, and the rank of its adapters."""


@dataclass(frozen=True)
class Variant:
    """One way to train the model.

    Attributes:
        method: full, lora (adapters on bf16 weights) or qlora (on int4 weights). dtype: of the matrix products.
    """

    method: str
    dtype: Dtype
    workload: Workload

    @property
    def words(self) -> str:
        """As a plan tells it: "bf16", "LoRA rank 16 in bf16"."""
        named = {
            "full": "",
            "lora": f"LoRA rank {LORA_RANK} in ",
            "qlora": f"LoRA rank {LORA_RANK} on int4 weights in ",
        }
        return f"{named[self.method]}{self.dtype}"


def context_of(config: ModelConfig, asked: int | None) -> int:
    """Tokens of a sequence: as asked, else what the model reads, 8,192 at most."""
    longest = getattr(config, "longest", None) or getattr(config, "context_length", None)
    return asked if asked is not None else min(longest or _USUAL_CONTEXT, _USUAL_CONTEXT)


def make_variant(
    config: ModelConfig, context: int, method: str, dtype: Dtype, optimizer: str, name: str
) -> Variant:
    """The workload of one method in one precision, traced from the model.

    Raises:
        ArrieroError: a method that the family does not take, or a context that the model does not read.
    """
    if method != "full" and not isinstance(config, DecoderConfig):
        raise ArrieroError(
            f"--method: adapters go on decoders; a model of family '{config.family}' is trained whole"
        )
    weights, rank = _HELD[method]
    workload = workload_of(
        config, context=context, dtype=dtype, lora_rank=rank, weights=weights, optimizer=optimizer,
        document_mask=False, name=name,
    )  # fmt: skip
    return Variant(method, dtype, workload)


def step_sequences(question: GoalQuestion, workload: Workload) -> int:
    """Sequences of one step: a power of two near the tokens that were asked for, or that are usual for the size.

    A number that was asked for is kept to the sequence. A power of two lets steps be dealt out evenly.
    """
    if question.batch_tokens is not None:
        return max(1, round(question.batch_tokens / workload.context))
    usual = usual_batch_tokens(workload.parameters.total) / workload.context
    return 2 ** max(0, round(math.log2(max(usual, 1.0))))


def make_space(
    question: GoalQuestion, variants: Sequence[Variant], offers: Sequence[Offer], batch: int
) -> Space:
    """Everything there is to look at."""
    decoder = isinstance(question.config, DecoderConfig)
    types = tuple(
        DeviceType(offer.node, tuple(i for i, one in enumerate(variants) if one.dtype in offer.coefficients))
        for offer in offers
    )
    first = variants[0].workload
    return Space(
        dimensions=first.dimensions, context=first.context, batch=batch, devices=types, counts=question.device_counts,
        recompute=tuple(mode for mode, name in enumerate(("none", "selective", "full")) if name in first.saved_block),
        micro_batches=tuple(n for n in range(1, 129) if batch % n == 0),
        tensor=decoder, context_parallel=decoder, pipeline=decoder,
        whole=frozenset(i for i, one in enumerate(variants) if one.method != "full"), runnable=question.runnable,
    )  # fmt: skip
