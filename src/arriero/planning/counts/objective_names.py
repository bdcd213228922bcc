"""Objectives by name: which there are, for which families, and with which head."""

from __future__ import annotations

from arriero.errors import ArrieroError, did_you_mean
from arriero.models.config import ModelConfig
from arriero.models.encoder_config import EncoderConfig
from arriero.models.seq2seq_config import Seq2SeqConfig

_TASKS = {
    "masked": "masked_lm",
    "next_sentence": "pretraining",
    "sentence_order": "pretraining",
    "regression": "sequence_classification",
}
"""Objectives of encoders, and the head that each wants."""
_NEXT_TOKEN = ("causal", "sft", "dpo", "scalar")
OBJECTIVES = (*_NEXT_TOKEN, *_TASKS, "seq2seq")
"""``scalar`` is a number for each token from the vectors before the head: reward models and critics."""


def resolve_objective(config: ModelConfig, objective: str) -> tuple[ModelConfig, str]:
    """The configuration with the head that the objective wants, and the objective; ``auto`` is the family's own.

    Raises:
        ArrieroError: no such objective, or not for this family.
    """
    encoder, pairs = isinstance(config, EncoderConfig), isinstance(config, Seq2SeqConfig)
    if objective == "auto":
        objective = "masked" if encoder else "seq2seq" if pairs else "causal"
    if objective not in OBJECTIVES:
        raise ArrieroError(f"no objective is called '{objective}'{did_you_mean(objective, OBJECTIVES)}")
    fitting = tuple(_TASKS) if encoder else ("seq2seq",) if pairs else _NEXT_TOKEN
    if objective not in fitting:
        raise ArrieroError(
            f"a model of family '{config.family}' is not trained with objective {objective}; it takes {', '.join(fitting)}"
        )
    if objective in _TASKS:
        config = config.model_copy(update={"task": _TASKS[objective]})
    return config, objective
