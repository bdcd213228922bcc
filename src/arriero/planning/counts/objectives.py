"""The objective of a workload: the one that trains, over samples of which only the shape is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.models.encoder_config import EncoderConfig
from arriero.models.layers.linear import Linear
from arriero.planning.counts.objective_names import OBJECTIVES, resolve_objective
from arriero.training.objectives.base import Batch, Objective, Shape
from arriero.training.objectives.causal import CausalObjective, PlannedWindows
from arriero.training.objectives.dpo import DpoObjective
from arriero.training.objectives.masked import MaskedObjective
from arriero.training.objectives.masking import Masking
from arriero.training.objectives.regression import RegressionObjective
from arriero.training.objectives.seq2seq import PairShape, Seq2SeqObjective
from arriero.training.objectives.sft import SftObjective


class ScalarObjective(SftObjective):
    """One number a token, or a row's last, from a linear layer on the last vectors: rewards (Ouyang et al.,
    arXiv 2203.02155, section 3.5) and values of states (Stiennon et al., arXiv 2009.01325)."""

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        found = model.scalar_head(model.hidden(batch.ids)).squeeze(-1)
        return F.softplus(-found.float()).sum(), {}


def add_scalar_head(model: Any) -> None:
    """A linear layer from the width of the model's vectors to one number."""
    model.scalar_head = Linear(getattr(model, "width", model.config.d_model), 1, bias=True)


class _Pairs:
    """Rows of two segments of which nothing is known but the length."""

    def __init__(self, length: int, paired: bool) -> None:
        self.longest, self.paired = length, paired

    def __len__(self) -> int:
        return 1

    def length(self, index: int) -> int:
        return self.longest

    def mean_length(self) -> float:
        return float(self.longest)

    def row(self, index: int, draws: Any) -> Any:
        raise ArrieroError("a planned row has no tokens")


def planned_objective(config: ModelConfig, objective: str, context: int) -> Objective:
    """The objective over nothing; ``synthetic`` makes its batches."""
    if objective == "causal":
        return CausalObjective(PlannedWindows(1, context), context, document_mask=True)
    if objective == "sft":
        return SftObjective([])
    if objective == "scalar":
        return ScalarObjective([])
    if objective == "dpo":
        return DpoObjective([], torch.empty(0, 2), beta=0.1, label_smoothing=0.0, nll_coef=0.0)
    if objective == "seq2seq":
        return Seq2SeqObjective([], 0)
    if objective == "regression":
        assert isinstance(config, EncoderConfig)
        return RegressionObjective([], config.n_labels, config.pad_id or 0)
    none = np.zeros(config.vocab_size, dtype=bool)
    masking = Masking(0, np.arange(1), none)
    return MaskedObjective(_Pairs(context, objective != "masked"), masking, 0, seed=0)


def planned_shape(
    objective: str, rows: int, context: int, scored: int, source: int | None, masked: bool
) -> Shape:
    """Shape of a micro-batch of ``rows`` sequences without padding."""
    if objective == "seq2seq":
        return PairShape(rows, context, rows * scored, False, context // 2 if source is None else source)
    return Shape(rows, context, rows * scored, masked)


__all__ = [
    "OBJECTIVES", "ScalarObjective", "add_scalar_head", "planned_objective", "planned_shape", "resolve_objective",
]  # fmt: skip
