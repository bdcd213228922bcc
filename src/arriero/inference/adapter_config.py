"""What an ``adapter_config.json`` of PEFT says of the adapters in the file beside it, and what is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arriero.errors import ArrieroError

ADAPTER_CONFIG = "adapter_config.json"

_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin that change the base's weights too, so that the adapter does not fit the base as it was."""

_NOT_HERE = {
    "use_dora": "the adapter is DoRA (weights decomposed into size and direction)",
    "modules_to_save": "the adapter brings whole layers (modules_to_save)",
    "trainable_token_indices": "the adapter brings rows of the embedding (trainable_token_indices)",
    "target_parameters": "the adapter is on bare parameters (target_parameters)",
    "layer_replication": "the adapter repeats layers (layer_replication)",
    "lora_bias": "the adapter has biases of its own (lora_bias)",
    "use_qalora": "the adapter is QA-LoRA (pooled inputs)",
    "alora_invocation_tokens": "the adapter begins in the middle of a text (activated LoRA)",
    "arrow_config": "the adapter is a router over others (arrow_config)",
    "use_bdlora": "the adapter's matrices are block-diagonal (use_bdlora)",
    "kasa_config": "the adapter has singular values of its own (KaSA)",
    "monteclora_config": "the adapter is drawn at random in each call (MonteCLoRA)",
}
"""Keys that ask for more than a low-rank product, and what is said of them."""


@dataclass(frozen=True)
class LoraConfig:
    """Scale and rank of each adapted layer (Hu et al., arXiv 2106.09685; rank-stabilised: arXiv 2312.03732).

    Attributes:
        rank, alpha: of layers that no pattern names.
        rank_patterns, alpha_patterns: regular expression at the end of a layer's name -> its own rank or alpha.
        rank_stabilised: scale alpha / sqrt(rank) in place of alpha / rank.
    """

    rank: int
    alpha: float
    rank_patterns: Mapping[str, int] = field(default_factory=dict)
    alpha_patterns: Mapping[str, float] = field(default_factory=dict)
    rank_stabilised: bool = False

    def rank_of(self, module: str) -> int:
        """Rank of the layer called ``module`` in the file."""
        return int(_matching(self.rank_patterns, module, self.rank))

    def scale_of(self, module: str) -> float:
        """What its product is multiplied by."""
        rank = self.rank_of(module)
        alpha = float(_matching(self.alpha_patterns, module, self.alpha))
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def read_lora_config(path: Path) -> LoraConfig:
    """Read ``adapter_config.json``.

    Raises:
        ArrieroError: unreadable, no LoRA, or a kind of LoRA that is more than a low-rank product.
    """
    values = _read(path)
    if values.get("peft_type") != "LORA":
        raise ArrieroError(f"{path}: peft_type is {values.get('peft_type')!r}; only LORA can be served")
    for key, what in _NOT_HERE.items():
        if values.get(key):
            raise ArrieroError(f"{path}: {what}, which is not served: merge it into the model instead")
    if values.get("bias", "none") != "none":
        raise ArrieroError(f"{path}: bias is {values['bias']!r}, only 'none' is served: merge it instead")
    begun = str(values.get("init_lora_weights", True)).lower()
    if begun.startswith(_CHANGES_THE_BASE):
        raise ArrieroError(
            f"{path}: init_lora_weights {begun!r} changed the base's weights; save it as plain LoRA "
            "(PEFT: path_initial_model_for_weight_conversion) and load that"
        )
    return LoraConfig(
        rank=_positive(values, "r", path, whole=True),
        alpha=_positive(values, "lora_alpha", path),
        rank_patterns=_patterns(values, "rank_pattern", path, whole=True),
        alpha_patterns=_patterns(values, "alpha_pattern", path),
        rank_stabilised=bool(values.get("use_rslora")),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArrieroError(f"{path.parent} holds no adapter: it has no {path.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArrieroError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ArrieroError(f"{path} should hold a JSON object")
    return values


def _patterns(values: dict[str, Any], key: str, path: Path, whole: bool = False) -> dict[str, Any]:
    patterns = values.get(key) or {}
    if not isinstance(patterns, dict):
        raise ArrieroError(f"{path}: {key} should be an object of names")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ArrieroError(f"{path}: {key} '{pattern}' is no regular expression: {error}") from None
    return {pattern: _positive(patterns, pattern, path, whole) for pattern in patterns}


def _positive(values: dict[str, Any], key: str, path: Path, whole: bool = False) -> Any:
    value: Any = values.get(key)
    fits = isinstance(value, int) or (isinstance(value, float) and not whole)
    if not fits or isinstance(value, bool) or not value > 0 or not math.isfinite(value):
        kind = "whole number" if whole else "number"
        raise ArrieroError(f"{path}: {key} should be a positive {kind}, not {value!r}")
    return value


def _matching(patterns: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    """The value of the first pattern that ends the name, as PEFT matches them; else ``otherwise``."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise
