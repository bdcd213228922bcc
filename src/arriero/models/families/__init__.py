"""The families, one short file each: what is special about a family's configuration and files."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

from arriero.errors import ArrieroError, did_you_mean

if TYPE_CHECKING:
    from arriero.models.family import Family

FAMILIES = {
    # decoders
    "gpt1": "openai-gpt",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "gpt_neox": "gpt_neox",
    "opt": "opt",
    "bloom": "bloom",
    "falcon": "falcon",
    "mpt": "mpt",
    "starcoder": "gpt_bigcode",
    # decoders that transformers has not, in folders of Arriero's own
    "gopher": "arriero_gopher",
    "codegeex": "arriero_codegeex",
    # encoders
    "bert": "bert",
    "roberta": "roberta",
    "albert": "albert",
    "deberta": "deberta",
    "deberta_v2": "deberta-v2",
    "longformer": "longformer",
    # encoder-decoders
    "transformer": "marian",
    "bart": "bart",
    "t5": "t5",
    # small nets, in folders of Arriero's own
    "feedforward": "arriero_feedforward",
    "rnn": "arriero_rnn",
    "lstm": "arriero_lstm",
}
"""Name of a family (its file in this package) -> ``model_type`` of its ``config.json``."""

_OF_MODEL_TYPE = {model_type: name for name, model_type in FAMILIES.items()}


@cache
def get_family(name: str) -> Family:
    """A family by its name.

    Raises:
        ArrieroError: there is none of that name.
    """
    if name not in FAMILIES:
        raise ArrieroError(f"no family is called '{name}'{did_you_mean(name, FAMILIES)}")
    family: Family = importlib.import_module(f"{__name__}.{name}").FAMILY
    return family


def family_of(values: dict[str, Any], where: str) -> Family:
    """The family of a ``config.json``.

    Raises:
        ArrieroError: Arriero does not have it.
    """
    model_type = values.get("model_type")
    if model_type not in _OF_MODEL_TYPE:
        known = ", ".join(sorted(_OF_MODEL_TYPE))
        kind = (values.get("architectures") or [model_type or "model without model_type"])[0]
        raise ArrieroError(f"{where}: is a {kind}; Arriero reads the model types {known}")
    return get_family(_OF_MODEL_TYPE[model_type])
