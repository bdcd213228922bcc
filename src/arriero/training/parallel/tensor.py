"""A decoder cut over the processes of a tensor group, with torch's styles (Megatron-LM, arXiv 1909.08053, 2205.05198).

One plan serves all decoder families, because the names of their layers are the same: queries, keys, values, gate and up
are cut by columns, the two projections back onto the residual stream by rows, embedding and head by the vocabulary.
With ``sequence`` the residual stream and the norms hold a part of the sequence each; it is gathered before attention
and feed-forward and added up and cut again after them. A pipeline's stages hand over the parts as they are.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import (
    DTensor,
    Placement,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    PrepareModuleOutput,
    RowwiseParallel,
    parallelize_module,
)
from torch.distributed.tensor.parallel.style import ParallelStyle

from arriero.errors import ArrieroError
from arriero.models.decoder import Decoder
from arriero.models.layers.attention import Attention
from arriero.models.layers.linear import Linear
from arriero.training.parallel.entering import Entering, Rows
from arriero.training.parallel.grid import Grid
from arriero.training.parallel.vocabulary import VocabularyHead

_COLUMNS = (
    "attention.q_proj",
    "attention.k_proj",
    "attention.v_proj",
    "feed_forward.gate_proj",
    "feed_forward.up_proj",
)
_ROWS = ("attention.o_proj", "feed_forward.down_proj")


class _VocabularyEmbedding(RowwiseParallel):
    """Rows of the table over the processes; each looks up what it has, and the results are added up."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        whole: tuple[Placement, ...] = (Replicate(),)
        self.desired_input_layouts = whole
        return distribute_module(
            module, device_mesh, self._partition_embedding_fn,
            partial(self._prepare_input_fn, whole, whole), partial(self._prepare_output_fn, whole, True),
        )  # fmt: skip


class _VocabularyHead(ParallelStyle):
    """Rows of the head's table over the processes; its loss is ``vocabulary.VocabularyHead``'s."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        module.register_parameter("weight", _cut(module.get_parameter("weight"), device_mesh))
        return module


def _cut(p: nn.Parameter, mesh: DeviceMesh) -> nn.Parameter:
    # every process has the same values already, so nothing is sent
    cut = distribute_tensor(p.detach(), mesh, [Shard(0)], src_data_rank=None)
    return nn.Parameter(cut, requires_grad=p.requires_grad)


def block_plan(block: nn.Module, sequence: bool, regather: bool) -> dict[str, ParallelStyle]:
    """Style of every part of a block.

    Args:
        regather: a cut stream is gathered once more in the backward pass, rather than kept whole for it.
    """
    stream: Placement = Shard(1) if sequence else Replicate()
    plan: dict[str, ParallelStyle] = {
        # gathered once for all the layers that read it, so that their gradients are added up once too
        name: Entering(stream, gather=sequence, again=regather or not sequence)
        for name in ("attention", "feed_forward")
    }
    styles = {name: ColwiseParallel() for name in _COLUMNS} | {
        name: Rows(output_layouts=stream) for name in _ROWS
    }
    there = dict(block.named_modules())
    return plan | {name: style for name, style in styles.items() if name in there}


def cut_decoder(
    model: Decoder, grid: Grid, *, first: bool = True, last: bool = True, regather: bool = True
) -> set[str]:
    """Cut the model in place. Each process must have the same weights.

    Args:
        first, last: whether the model has the embedding and the head (it may be one stage of a pipeline).
        regather: see :func:`block_plan`; False where the blocks are recomputed anyway.

    Returns:
        Names of the parameters whose gradient each process knows a part of: the norms of a stream that is cut.

    Raises:
        ArrieroError: a layer is not a plain linear one (adapters, low bits).
    """
    mesh, sequence, size = grid.tensor_mesh, grid.layout.sequence, grid.layout.tensor
    blocks = list(model.blocks)
    for block in blocks:
        _check_plain(block)
        assert isinstance(block.attention, Attention)
        _own_heads(block.attention, size, grid.place.tensor)
        parallelize_module(block, mesh, block_plan(block, sequence, regather), src_data_rank=None)
    table = last and model.head is None
    if first or table:
        parallelize_module(model.embedding, mesh, _VocabularyEmbedding(), src_data_rank=None)
    if last and model.head is not None:
        parallelize_module(model.head, mesh, _VocabularyHead())
    if last and model.head_bias is not None:
        model.head_bias = _cut(model.head_bias, mesh)
    if not sequence:
        return set()
    if first:
        _enter_cut_stream(blocks[0], mesh)
    if last:
        _leave_cut_stream(blocks[-1] if model.norm is None else model.norm, mesh)
    return {
        name
        for name, p in model.named_parameters()
        if not isinstance(p, DTensor) and name.startswith(("blocks.", "norm."))
    }


def _check_plain(block: nn.Module) -> None:
    for name, module in block.named_modules():
        if name in (*_COLUMNS, *_ROWS) and type(module) is not Linear:
            raise ArrieroError(
                f"parallel: tensor cuts plain linear layers, but {name} is a {type(module).__name__} (adapters and "
                "low bits are not cut); set tensor to 1"
            )


def _own_heads(attention: Attention, size: int, part: int) -> None:
    attention.n_heads //= size
    attention.n_kv_heads //= size
    if attention.slopes is not None:
        attention.slopes = attention.slopes.chunk(size)[part].clone()


def _enter_cut_stream(first: nn.Module, mesh: DeviceMesh) -> None:
    """The stream is whole before ``first`` and cut from there on."""
    enter = PrepareModuleInput(
        input_layouts=(Replicate(), None, None, None), desired_input_layouts=(Shard(1), None, None, None),
        use_local_output=True,
    )  # fmt: skip
    parallelize_module(first, mesh, enter)


def _leave_cut_stream(last: nn.Module, mesh: DeviceMesh) -> None:
    """The stream is cut up to ``last`` and whole after it."""
    leave = PrepareModuleOutput(output_layouts=Shard(1), desired_output_layouts=Replicate())
    last.register_forward_hook(lambda module, inputs, output: leave._prepare_out_fn(output, mesh))


def vocabulary_head(model: Decoder, grid: Grid) -> VocabularyHead:
    """The losses of a head that :func:`cut_decoder` cut."""
    vocab_size, group = model.config.vocab_size, grid.tensor_group
    piece = -(-vocab_size // grid.layout.tensor)

    def table() -> tuple[torch.Tensor, torch.Tensor | None]:
        weight, bias = model.head_table()
        return _local(weight), None if bias is None else _local(bias)

    return VocabularyHead(table, piece * grid.place.tensor, vocab_size, group)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
