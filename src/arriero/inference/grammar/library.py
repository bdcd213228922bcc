"""The grammar library, which is an extra."""

from __future__ import annotations

from types import ModuleType

from arriero.errors import ArrieroError


def llguidance() -> ModuleType:
    """The module.

    Raises:
        ArrieroError: it is not installed.
    """
    try:
        import llguidance
    except ImportError:
        raise missing() from None
    return llguidance


def missing() -> ArrieroError:
    """What to say where it is not installed."""
    return ArrieroError(
        "answers that obey a grammar (JSON, tools) need llguidance: pip install 'arriero[grammar]'"
    )


def available() -> bool:
    """Whether it is installed."""
    from importlib.util import find_spec

    return find_spec("llguidance") is not None
