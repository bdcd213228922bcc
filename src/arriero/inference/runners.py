"""Which runner computes an engine's steps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import torch

from arriero.errors import ArrieroError
from arriero.inference.kv_pool import KVPool
from arriero.inference.rows import Runner
from arriero.inference.torch_runner import TorchRunner
from arriero.models.decoder import Decoder

if TYPE_CHECKING:
    from arriero.inference.adapters import AdapterStore

_log = logging.getLogger("arriero.inference")

RunnerKind = Literal["auto", "native", "torch", "cuda"]
HeadKind = Literal["as_is", "int8"]
"""How a head with float32 or bfloat16 weights is read: as it is, or as int8 codes with one scale for 32 inputs."""


def make_runner(
    kind: RunnerKind,
    model: Decoder,
    pool: KVPool,
    adapters: AdapterStore | None,
    head: HeadKind = "as_is",
    fp8: bool = False,
    lean: bool = False,
) -> Runner:
    """The one that is asked for, or (``auto``) the native runner where it knows the model and this machine, and the CUDA
    runner where it knows the model and its GPU; the torch runner for everything else.

    Args:
        head: ``int8``: the native runner reads the head as int8 codes, see NativeRunner.
        fp8: the CUDA runner multiplies in float8, see CudaRunner.
        lean: the native runner holds low-bit codes once, see NativeRunner.

    Raises:
        ArrieroError: the runner that is asked for cannot take the model, or ``head`` or ``fp8`` needs another.
    """
    on_gpu = torch.device(pool.shape.device).type == "cuda"
    if kind == "cuda" or (kind == "auto" and on_gpu):
        return _on_gpu(kind, model, pool, adapters, head, fp8)
    if fp8:
        raise ArrieroError(f"fp8 is for the CUDA runner, and here it is runner {kind} on {pool.shape.device}")
    reason = "runner torch is asked for" if kind == "torch" else why_not_native(model, pool)
    if reason is None:
        from arriero.inference.native_runner import NativeRunner

        return NativeRunner(model, pool, adapters, head=head, lean=lean)
    if kind == "native":
        raise ArrieroError(f"the native runner cannot take this model: {reason}")
    if head != "as_is":
        raise ArrieroError(f"head {head} is for the native runner, which does not run here: {reason}")
    return TorchRunner(model, pool, adapters)


def _on_gpu(
    kind: RunnerKind, model: Decoder, pool: KVPool, adapters: AdapterStore | None, head: HeadKind, fp8: bool
) -> Runner:
    """The CUDA runner; with ``auto`` the torch runner where there can be none, and the log says why."""
    from arriero.inference.cuda.runner import CudaRunner, why_no_runner

    if head != "as_is":
        raise ArrieroError(f"head {head} is for the native runner, which does not run on a GPU")
    reason = why_no_runner(model, pool)
    if reason is None:
        return CudaRunner(model, pool, adapters, float8=fp8)
    if kind == "cuda":
        raise ArrieroError(f"the CUDA runner cannot take this model: {reason}")
    if fp8:
        raise ArrieroError(f"fp8 is for the CUDA runner, which does not run here: {reason}")
    _log.warning("the torch runner computes, not the CUDA runner: %s", reason)
    return TorchRunner(model, pool, adapters)


def why_not_native(model: Decoder, pool: KVPool) -> str | None:
    """Why a model cannot be computed by the native library here; None where it can."""
    from arriero.inference.native_runner import why_no_runner
    from arriero.native import library

    if not library.available():
        return library.why_not()
    return why_no_runner(model, pool) if isinstance(model, Decoder) else "it is no decoder of ours"
