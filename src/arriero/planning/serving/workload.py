"""The workload of a model that answers: a forward pass, with the weights as they are held for it."""

from __future__ import annotations

from dataclasses import replace

from arriero.cost.workload import Dtype, Workload
from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.depths import depths_of
from arriero.planning.counts.held import PACKED_BITS, held_by
from arriero.planning.counts.subject import Held, Subject
from arriero.planning.counts.workload import workload_of

_WIDTHS: dict[Held, float] = {"fp32": 4.0, "bf16": 2.0}


def decoding_workload(
    config: ModelConfig, *, context: int, dtype: Dtype, weights: Held, name: str
) -> Workload:
    """One sequence of ``context`` tokens; keys and values are kept in the type of the products.

    Args:
        weights: how they are held. int8 and int4: the blocks' layers packed with their scales, all else as floats.

    Raises:
        ArrieroError: a model that keeps no keys and values: encoders, recurrent nets.
    """
    if not isinstance(config, DecoderConfig):
        raise ArrieroError(
            f"--serve is for decoders that write a token at a time; {name} is of family '{config.family}'"
        )
    traced = workload_of(config, context=context, dtype=dtype, document_mask=False, name=name)
    width = 4.0 if dtype == "fp32" else 2.0
    kept = replace(traced.parameters, weight_bytes=_weight_bytes(config, context, dtype, weights, traced))
    return replace(traced, parameters=kept, kv_token=float(config.kv_bytes_per_token(int(width))))


def _weight_bytes(config: ModelConfig, context: int, dtype: Dtype, weights: Held, traced: Workload) -> float:
    if weights not in PACKED_BITS:
        return _WIDTHS[weights] * traced.parameters.total
    subject = Subject("causal", context, context, None, dtype, 0, "all-linear", weights, "adamw", False)
    return held_by(subject, depths_of(config)).parameters.weight_bytes
