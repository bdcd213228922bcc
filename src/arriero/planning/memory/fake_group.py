"""A group of processes that do not exist, and what of torch must be told that its tensors are fake in there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.utils._mode_utils import no_dispatch

from arriero.errors import ArrieroError


@contextmanager
def fake_group(size: int, rank: int) -> Iterator[None]:
    """A process group of ``size`` of which this process is one and the others answer without being there.

    Raises:
        ArrieroError: this process is in a group already, or torch lacks the ``fake`` backend.
    """
    if dist.is_initialized():
        raise ArrieroError(
            "memory of a layout is traced in a group of its own; this process is in one already"
        )
    try:
        from torch.testing._internal.distributed.fake_pg import FakeStore
    except ImportError as error:
        raise ArrieroError(
            f"torch {torch.__version__} has no fake process group ({error}); use the closed form"
        ) from None
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
    try:
        with _meshes_outside_the_mode(), _shapes_outside_the_modes(), _padded_once(), _waited_in_place():
            yield
    finally:
        dist.destroy_process_group()
        _forget_meshes()


def _meshes_outside_the_mode() -> AbstractContextManager[Any]:
    """Joined meshes (FSDP over tensor parallelism) look numbers up, which fake tensors have not."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from torch.distributed.device_mesh import DeviceMesh

    joined = getattr(DeviceMesh, "_concatenate", None)
    if joined is None:
        return nullcontext()

    def outside(meshes: Any) -> Any:
        with unset_fake_temporarily(), no_dispatch():
            return joined(meshes)

    return patch.object(DeviceMesh, "_concatenate", staticmethod(outside))


def _shapes_outside_the_modes() -> AbstractContextManager[Any]:
    """The first time that DTensor sees an operation it works out its shapes on tensors of the whole; these take no memory."""
    from torch.distributed.tensor._sharding_prop import ShardingPropagator
    from torch.utils._python_dispatch import _disable_current_modes

    found = getattr(ShardingPropagator, "_propagate_tensor_meta_non_cached", None)
    if found is None:
        return nullcontext()

    def outside(self: Any, operation: Any) -> Any:
        with _disable_current_modes():
            return found(self, operation)

    return patch.object(ShardingPropagator, "_propagate_tensor_meta_non_cached", outside)


def _padded_once() -> AbstractContextManager[Any]:
    """FSDP pads rows that do not divide when it cuts them, and at the first step again unless it finds its own bytes by their
    address, which fake tensors have not."""
    from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam

    found = FSDPParam.reset_sharded_param

    def if_changed(self: Any) -> None:
        if getattr(self._module_info.module, self._module_info.param_name) is not self.sharded_param:
            found(self)

    return patch.object(FSDPParam, "reset_sharded_param", if_changed)


def _waited_in_place() -> AbstractContextManager[Any]:
    """Waiting for a collective gives the tensor that was waited for; on fake tensors torch makes another of its size."""
    from torch.distributed import _functional_collectives

    return patch.object(_functional_collectives, "wait_tensor", lambda tensor: tensor)


def _forget_meshes() -> None:
    """DTensor remembers what it did by meshes that are equal where their ranks are; a group that is gone answers no more."""
    try:
        from torch.distributed.tensor.debug import _clear_sharding_prop_cache
    except ImportError:  # torch 2.11 remembers in Python alone
        from torch.distributed.tensor import DTensor

        DTensor._op_dispatcher.sharding_propagator.propagate_op_sharding.cache_clear()
    else:
        _clear_sharding_prop_cache()
    from torch.distributed.tensor import _redistribute

    clear = getattr(getattr(_redistribute, "_gen_transform_infos", None), "cache_clear", None)
    if clear is not None:
        clear()
