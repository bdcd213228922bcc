"""Names of non-linearities in Hugging Face's configurations, and ours. Needs no torch."""

from __future__ import annotations

_OURS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "gelu_quick",
    "relu": "relu",
    "tanh": "tanh",
}
_THEIRS = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "gelu_quick": "quick_gelu",
    "relu": "relu",
    "tanh": "tanh",
}


def ours_of(name: str) -> str:
    """Our name of an activation.

    Raises:
        ValueError: Arriero does not have it.
    """
    if name not in _OURS:
        raise ValueError(f"activation '{name}' is not one that Arriero has; {', '.join(_OURS)} are")
    return _OURS[name]


def theirs_of(name: str) -> str:
    """Hugging Face's name of one of our activations."""
    return _THEIRS[name]
