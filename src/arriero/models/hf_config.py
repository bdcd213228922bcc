"""``config.json`` of Hugging Face's folders to our configurations and back, by the tables of a family."""

from __future__ import annotations

import json
from typing import Any

from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.models.families import family_of, get_family
from arriero.models.family import Family

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""Keys of mixtures of experts, as families of such write them."""
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def config_from_hf(values: dict[str, Any], where: str) -> ModelConfig:
    """Our configuration of a ``config.json``.

    Raises:
        ArrieroError: an architecture or a variant that Arriero does not have, or figures that do not fit.
    """
    family = family_of(values, where)
    _check_architecture(family, values, where)
    for key, needed in family.required.items():
        if values.get(key, needed) not in (needed, None):
            raise ArrieroError(
                f"{where}: {key} is {values[key]!r}; Arriero's {family.name} has only {needed!r}"
            )
    _check_dense(family, values, where)
    ours = {name: values[key] for name, key in family.keys.items() if values.get(key) is not None}
    for name, value in ours.items():
        _check_kind(family.keys[name], value, family.config.model_fields[name].annotation, where)
    try:
        read = family.read(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArrieroError(f"{where}: {' '.join(str(error).split())}") from None
    fields = {"family": family.name, **family.defaults, **ours, **family.fixed, **read}
    task = family.architectures[_architecture(family, values)]
    if "task" in family.config.model_fields:
        fields.setdefault("task", task)
    elif task == "none" and "tie_embeddings" in family.config.model_fields:
        fields["tie_embeddings"] = True  # a body alone has no head of its own
    return family.config.parse(fields, where)


def config_to_hf(config: ModelConfig, dtype: str, ids: dict[str, Any]) -> dict[str, Any]:
    """``config.json`` that transformers 4 and 5 read. ``ids``: bos_token_id, eos_token_id, pad_token_id.

    Raises:
        ArrieroError: the configuration has a switch that the family's files cannot say.
    """
    family = get_family(config.family)
    for name, value in family.fixed.items():
        if getattr(config, name) != value:
            raise ArrieroError(
                f"a folder of the family {family.name} cannot hold {name} = {getattr(config, name)!r}, only {value!r}"
            )
    try:
        said = family.write(config)
    except ValueError as error:
        raise ArrieroError(f"this model does not fit a folder of the family {family.name}: {error}") from None
    return {
        "architectures": [family.architecture_of(config)],
        "model_type": family.model_type,
        **family.required,
        **{key: _plain(getattr(config, name)) for name, key in family.keys.items()},
        **{key: value for key, value in ids.items() if value is not None},
        **said,
        "torch_dtype": dtype,  # transformers 4, vLLM
        "dtype": dtype,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _architecture(family: Family, values: dict[str, Any]) -> str:
    named = values.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else next(iter(family.architectures))


def _check_architecture(family: Family, values: dict[str, Any], where: str) -> None:
    name = _architecture(family, values)
    if name not in family.architectures:
        known = ", ".join(family.architectures)
        raise ArrieroError(f"{where}: is a {name}; of this family Arriero reads {known}")


def _check_dense(family: Family, values: dict[str, Any], where: str) -> None:
    """Experts under a dense model's type would be counted, priced and loaded as one of them."""
    for key in EXPERTS:
        if isinstance(values.get(key), int) and values[key] > 1:
            raise ArrieroError(f"{where}: {key} is {values[key]}; Arriero's {family.name} has no experts")


def _check_kind(key: str, value: Any, annotation: Any, where: str) -> None:
    """JSON's ``true`` is no number and ``"12"`` is no 12: a library that takes them so is guessing."""
    kinds = {int: (int,), float: (int, float), bool: (bool,)}
    for kind, allowed in kinds.items():
        if annotation in (kind, kind | None) and (
            not isinstance(value, allowed) or (kind is not bool and isinstance(value, bool))
        ):
            raise ArrieroError(f"{where}: {key} is {json.dumps(value)}, not {_KINDS[kind]}")
