"""Parameters of a network by part, found from the modules' own names."""

from __future__ import annotations

from torch import nn

from arriero.models.layers.norm import LayerNorm, RMSNorm

PARTS = ("embedding", "positions", "cross_attention", "attention", "feed_forward", "norm", "pooler", "head")
"""In the order in which they are shown; a module belongs to the innermost of its names that stands here."""


def count_by_part(model: nn.Module) -> dict[str, int]:
    """Part -> distinct parameters. A shared tensor counts once, where it first stands.

    Norms count as "norm" wherever they are; parameters under no known part as "other".
    """
    norms = {name for name, module in model.named_modules() if isinstance(module, (RMSNorm, LayerNorm))}
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = "norm" if name.rpartition(".")[0] in norms else _part(name)
        counts[part] = counts.get(part, 0) + parameter.numel()
    return {part: counts[part] for part in (*PARTS, "other") if part in counts}


def _part(name: str) -> str:
    for piece in reversed(name.split(".")):
        for part in PARTS:
            if piece == part or piece.startswith(part + "_"):
                return part
    return "other"
