"""The optimizer that the settings name, over a model's trained parameters."""

from __future__ import annotations

import torch
from torch import nn

from arriero.errors import ArrieroError
from arriero.training.optimizers.adafactor import Adafactor
from arriero.training.optimizers.adamw import make_adamw
from arriero.training.optimizers.cut import CutOf, uncut
from arriero.training.optimizers.muon import MuonWithAdamW
from arriero.training.optimizers.roles import role_groups
from arriero.training.settings import TrainSettings


def make_optimizer(model: nn.Module, settings: TrainSettings, cut_of: CutOf = uncut) -> torch.optim.Optimizer:
    """AdamW, Adafactor or Muon (with AdamW) over the parameters that require gradients, states in their dtype.

    Weight decay goes by role (``roles.role_groups``). All of the state is made here and not at the first step, so
    that a plan's trace and a checkpoint always see it: ``optimizer.state[p]`` maps names to tensors, nothing else.

    Args:
        cut_of: how a parameter of which this process holds a part lies in the whole; AdamW need not know.

    Raises:
        ArrieroError: nothing is to be trained.
    """
    groups, matrices = role_groups(
        model, settings.weight_decay, ("matrix",) if settings.optimizer == "muon" else ()
    )
    if not groups and not matrices:
        raise ArrieroError("there is nothing to train: every parameter of the model is frozen")
    if settings.optimizer == "adamw":
        return make_adamw(groups, settings)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    cuts = {p: cut for name, p in trained.items() if (cut := cut_of(name)) is not None}
    if settings.optimizer == "muon":
        return MuonWithAdamW(matrices, groups, settings, cuts)
    return Adafactor(groups, settings.learning_rate, cuts=cuts)
