"""Another head on the same body: how a pre-trained encoder becomes a classifier."""

from __future__ import annotations

from typing import Any

import torch

from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.models.initialise import initialise


def with_task(model: Encoder, task: str, seed: int, **changes: Any) -> Encoder:
    """A model for ``task`` that shares the body of ``model`` and has a freshly drawn head (and pooler, if new).

    Args:
        changes: other fields of the configuration: n_labels, label_names, problem, classifier_dropout.

    Raises:
        ArrieroError: an unknown task, or changes that do not fit.
    """
    fields = {**model.config.model_dump(), "label_names": None, "problem": None, "n_labels": 2, "task": task}
    config = EncoderConfig.parse({**fields, **changes}, f"task {task}")
    weight = model.embedding.word.weight
    with torch.device("meta"):
        made = Encoder(config)
    for part in ("head", "pooler", "mask_decoder"):
        fresh = getattr(made, part)
        if fresh is not None:
            fresh.to(weight.dtype).to_empty(device=weight.device)
            initialise(fresh, seed, config.init_std)
            for buffer in fresh.buffers():
                buffer.zero_()
    for part in ("embedding", "positions", "blocks", "conv", "pooler", "mask_decoder"):
        if getattr(made, part) is not None and getattr(model, part) is not None:
            setattr(made, part, getattr(model, part))
    made.train(model.training)
    return made
