"""Which runner computes an engine's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from arriero.errors import ArrieroError
from arriero.inference.kv_pool import KVPool
from arriero.inference.rows import Runner
from arriero.inference.torch_runner import TorchRunner
from arriero.models.decoder import Decoder

if TYPE_CHECKING:
    from arriero.inference.adapters import AdapterStore

RunnerKind = Literal["auto", "native", "torch"]
HeadKind = Literal["as_is", "int8"]
"""How a head with float32 or bfloat16 weights is read: as it is, or as int8 codes with one scale for 32 inputs."""


def make_runner(
    kind: RunnerKind, model: Decoder, pool: KVPool, adapters: AdapterStore | None, head: HeadKind = "as_is"
) -> Runner:
    """The native runner where it knows the model and this machine (``auto``), or the one that is asked for.

    Args:
        head: ``int8``: the native runner reads the head as int8 codes, see NativeRunner.

    Raises:
        ArrieroError: the native runner is asked for and cannot take the model, or ``head`` needs it.
    """
    reason = "runner torch is asked for" if kind == "torch" else why_not_native(model, pool)
    if reason is None:
        from arriero.inference.native_runner import NativeRunner

        return NativeRunner(model, pool, adapters, head=head)
    if kind == "native":
        raise ArrieroError(f"the native runner cannot take this model: {reason}")
    if head != "as_is":
        raise ArrieroError(f"head {head} is for the native runner, which does not run here: {reason}")
    return TorchRunner(model, pool, adapters)


def why_not_native(model: Decoder, pool: KVPool) -> str | None:
    """Why a model cannot be computed by the native library here; None where it can."""
    from arriero.inference.native_runner import why_no_runner
    from arriero.native import library

    if not library.available():
        return library.why_not()
    return why_no_runner(model, pool) if isinstance(model, Decoder) else "it is no decoder of ours"
