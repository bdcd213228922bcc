"""A model's shape and what it costs a token, without weights: of a preset, a folder or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arriero.cost.trace import trace
from arriero.models.checkpoint import build_model, read_config
from arriero.models.config import ModelConfig
from arriero.models.preset import Preset, get_preset, presets

SHOWN_LENGTH = 2048
"""Tokens at which the work a token is stated, where the context holds so many."""
_TRACED_WHOLE = 4


@dataclass(frozen=True)
class ModelShape:
    """What `arriero models show` prints.

    Attributes:
        parameters: by part; their sum is the model's size.
        length: tokens of the sequence for which the work is stated.
        forward_flops_per_token: of one forward pass over ``length`` tokens, head included; multiply-adds count two,
            causal attention half its square. None where a forward pass takes more than tokens.
        kv_bytes_per_token: keys and values in 16 bits that a token leaves in a decoder's cache.
    """

    name: str
    family: str
    config: dict[str, Any]
    parameters: dict[str, int]
    length: int
    forward_flops_per_token: float | None
    kv_bytes_per_token: int | None
    source: str = ""
    year: int | None = None

    @property
    def total(self) -> int:
        return sum(self.parameters.values())


def describe_model(name: str) -> ModelShape:
    """Shape of a preset by its name, or of the model in a folder or file.

    Raises:
        ArrieroError: neither.
    """
    path = Path(name)
    if name not in presets() and path.exists():
        return _shape(name, read_config(path))
    preset = get_preset(name)
    return _shape(name, preset.config, source=_told(preset), year=preset.year)


def _told(preset: Preset) -> str:
    """Where the shape comes from, and the count known for it where that is not of every parameter."""
    if not preset.without:
        return preset.source
    return f"{preset.source}; {preset.parameters:,} parameters without {' and '.join(preset.without)}"


def _shape(name: str, config: ModelConfig, **origin: Any) -> ModelShape:
    with torch.device("meta"):
        parameters = build_model(config).parameter_counts()
    length = min(
        getattr(config, "longest", None) or getattr(config, "context_length", None) or SHOWN_LENGTH,
        SHOWN_LENGTH,
    )
    cache = getattr(config, "kv_bytes_per_token", None)
    return ModelShape(
        name=name,
        family=config.family,
        config=config.model_dump(exclude={"family"}, exclude_none=True),
        parameters={part: count for part, count in parameters.items() if count},
        length=length,
        forward_flops_per_token=forward_flops(config, length) / length,
        kv_bytes_per_token=cache() if cache else None,
        **origin,
    )


def forward_flops(config: ModelConfig, length: int) -> float:
    """FLOPs of a forward pass over one sequence of ``length`` tokens (and as many of the target, where there are two).

    The network itself is traced on tensors without memory; a deep decoder at one and two blocks, since all its blocks
    are equal.
    """
    layers = getattr(config, "n_layers", 1)
    if layers <= _TRACED_WHOLE or type(config).__name__ != "DecoderConfig":
        return _traced_flops(config, length)
    one, two = (_traced_flops(config.model_copy(update={"n_layers": n}), length) for n in (1, 2))
    return one + (layers - 1) * (two - one)


def _traced_flops(config: ModelConfig, length: int) -> float:
    def make() -> list[Any]:
        return [build_model(config).eval(), torch.zeros(1, length, dtype=torch.int64)]

    def run(state: list[Any]) -> None:
        model, ids = state
        with torch.inference_mode():
            model(ids, ids) if hasattr(config, "decoder_layers") else model(ids)

    return trace(make, run).flops
