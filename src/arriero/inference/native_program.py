"""A decoder as a program of the native library: one call computes a step, with no Python between the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from arriero.inference.native_matrices import (
    BlockMatrices,
    head_matrix,
    reason_against,
    same_activations,
)
from arriero.inference.runners import HeadKind
from arriero.models.decoder import Decoder
from arriero.models.layers.attention import Attention
from arriero.models.layers.block import Block
from arriero.models.layers.feedforward import FeedForward
from arriero.models.layers.linear import Linear
from arriero.models.layers.norm import LayerNorm, RMSNorm
from arriero.models.layers.quantized import QuantizedLinear
from arriero.native import library, program
from arriero.native.matrices import NativeMatrix
from arriero.native.program import Builder, Heads, Program

_TABLES = {torch.float32: program.FP32, torch.bfloat16: program.BF16}


def why_not(model: nn.Module) -> str | None:
    """Why a model cannot run as a native program, in one line; None where it can."""
    if not library.available():
        return library.why_not()
    if type(model) is not Decoder:
        return f"{type(model).__name__} is no plain decoder"
    config = model.config
    if config.positions == "relative" or config.top_query:
        return "relative positions and top query layers have no native operation"
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "dynamic":
        return "dynamic rotary scaling changes its table with the length"
    for block in model.blocks:
        if type(block) is not Block or type(block.attention) is not Attention:
            return "a block or its attention is of a kind of its own"
        if type(block.feed_forward) is not FeedForward:
            return "a feed-forward layer is of a kind of its own"
    wrong = next((t for t in model.parameters() if t.device.type != "cpu"), None)
    if wrong is not None:
        return f"the weights are on {wrong.device}"
    if model.embedding.weight.dtype not in _TABLES:
        return f"an embedding in {model.embedding.weight.dtype} has no native operation; float32 and bfloat16 have"
    return reason_against(model)


@dataclass
class _Place:
    """Where the residual stream is: its buffer, and what is still to be added to it."""

    x: int
    pending: tuple[int, ...] = ()


class ProgramMaker:
    """Makes the program of one decoder that :func:`why_not` has no reason against.

    Args:
        head: ``as_is``, or ``int8``: codes with one scale for 32 inputs.
        lean: the model's layers keep their low-bit codes in the program's memory alone.
    """

    def __init__(self, model: Decoder, head: HeadKind = "as_is", lean: bool = False) -> None:
        self.model, self.config, self.head, self._lean = model, model.config, head, lean
        self._builder = Builder()
        config = model.config
        self._d, self._width = config.d_model, config.n_heads * config.head_dim
        self._gated = 2 if config.gated else 1
        self._x, self._normed, self._second = (self._builder.buffer(self._d) for _ in range(3))
        self._qkv = self._builder.buffer(self._width + 2 * config.n_kv_heads * config.head_dim)
        self._attended, self._attended_wanted = (self._builder.buffer(self._width) for _ in range(2))
        self._up = self._builder.buffer(self._gated * config.d_ff)
        self._inner = self._builder.buffer(config.d_ff)
        self._attention_out, self._feed_forward_out = (self._builder.buffer(self._d) for _ in range(2))
        self._x_wanted, self._normed_wanted = (self._builder.buffer(self._d) for _ in range(2))
        self._low = self._builder.buffer(3 * program.MOST_RANK)
        self._wanted = 0
        self.adapted: list[tuple[int, int, tuple[str, ...]]] = []
        """Operations by which adapters add to layers: numbers of the first and the second, the layers' places."""
        self.widths: dict[str, int] = {}
        """Outputs of those layers."""

    def make(self) -> Program:
        """The program."""
        self._embed()
        place = _Place(self._x)
        for layer, block in enumerate(self.model.blocks):
            place = self._block(layer, block, place)
        self._head(place)
        return Program(self._builder, self._heads())

    # ------------------------------------------------------------ the two ends

    def _embed(self) -> None:
        model, table = self.model, self.model.embedding.weight.detach().contiguous()
        fields: dict[str, Any] = {"width": self._d, "variant": _TABLES[table.dtype]}
        places: Tensor | None = None
        if model.positions is not None:
            places = model.positions.weight.detach().contiguous()
            fields |= {"variant2": _TABLES[places.dtype], "offset": self.config.position_offset}
        elif self.config.positions == "sinusoidal":
            assert model.sinusoids is not None
            places = model.sinusoids.float().contiguous()
        self._builder.add(program.EMBED, out=self._x, weight=table, bias=places, **fields)
        if model.embedding_norm is not None:
            self._norm(_Place(self._x), model.embedding_norm, None, out=self._x)

    def _head(self, place: _Place) -> None:
        matrix = head_matrix(*self.model.head_table(), self.head)
        normed = self._norm(place, self.model.norm, matrix, self._normed_wanted)
        self._products(normed, [matrix], program.LOGITS)

    def _heads(self) -> Heads:
        config, rotary = self.config, self.model.rotary
        attention = self.model.blocks[0].attention
        scale = config.head_dim**-0.5 if attention.scale is None else attention.scale
        slopes = None if attention.slopes is None else attention.slopes.float().contiguous()
        cos = None if rotary is None else rotary.cos.contiguous()
        sin = None if rotary is None else rotary.sin.contiguous()
        self._builder.kept += [slopes, cos, sin]
        pointers = [None if t is None else t.data_ptr() for t in (cos, sin, slopes)]
        width = 0 if cos is None else cos.shape[1]
        return Heads(config.n_heads, config.sliding_window or 0, width, 0, scale, 0, *pointers)

    # ------------------------------------------------------------ blocks

    def _block(self, layer: int, block: Block, place: _Place) -> _Place:
        matrices = BlockMatrices.of(block, self._lean)
        post = block.arrangement == "post"
        normed = self._norm(place, None if post else block.attention_norm, matrices.qkv[0], self._normed)
        self._attention(layer, normed, matrices)
        x = self._gather(self._x, self._x_wanted) if self._wanted else self._x
        here, up = _Place(x, (self._attention_out,)), matrices.up[0]
        if block.arrangement == "parallel":
            self._feed_forward(layer, matrices, self._parallel_input(block, normed, up, x))
            return _Place(x, (self._attention_out, self._feed_forward_out))
        if not post:
            self._feed_forward(layer, matrices, self._norm(here, block.feed_forward_norm, up, self._second))
            return _Place(x, (self._feed_forward_out,))
        self._feed_forward(layer, matrices, self._norm(here, block.attention_norm, up, x))
        self._norm(_Place(x, (self._feed_forward_out,)), block.feed_forward_norm, None, x)
        return _Place(x)

    def _attention(self, layer: int, normed: int, matrices: BlockMatrices) -> None:
        """Ends with the rows whose logits are asked for alone, where no later layer needs the others."""
        names = [f"blocks.{layer}.attention.{name}" for name in ("q_proj", "k_proj", "v_proj")]
        self._products(normed, matrices.qkv, self._qkv, names)
        self._builder.add(program.STORE, input=self._qkv, layer=layer)
        self._builder.add(program.ATTEND, input=self._qkv, out=self._attended, layer=layer)
        self._wanted = int(layer == self.config.n_layers - 1)
        out = self._attended_wanted if self._wanted else self._attended
        self._builder.add(
            program.MERGE, input=self._attended, out=out, width=self._width, wanted=self._wanted,
            matrix=matrices.out,
        )  # fmt: skip
        self._products(out, [matrices.out], self._attention_out, [f"blocks.{layer}.attention.o_proj"])

    def _parallel_input(self, block: Block, normed: int, matrix: NativeMatrix, x: int) -> int:
        """What the feed-forward layer reads beside attention: the same norm's rows, or its own norm's."""
        if block.feed_forward_norm is not None:
            return self._norm(_Place(x), block.feed_forward_norm, matrix, self._second)
        if self._wanted:
            normed = self._gather(normed, self._normed_wanted)
        return self._norm(_Place(normed), None, matrix, normed)

    def _feed_forward(self, layer: int, matrices: BlockMatrices, source: int) -> None:
        names = ["gate_proj", "up_proj"] if self.config.gated else ["up_proj"]
        self._products(
            source, matrices.up, self._up, [f"blocks.{layer}.feed_forward.{name}" for name in names]
        )
        self._builder.add(
            program.GATED if self.config.gated else program.ACT, input=self._up, out=self._inner,
            width=self.config.d_ff, variant=program.ACTIVATIONS[self.config.activation], wanted=self._wanted,
            matrix=matrices.down,
        )  # fmt: skip
        name = f"blocks.{layer}.feed_forward.down_proj"
        self._products(self._inner, [matrices.down], self._feed_forward_out, [name])

    # ------------------------------------------------------------ single operations

    def _norm(self, place: _Place, norm: nn.Module | None, matrix: NativeMatrix | None, out: int) -> int:
        """Add what is pending, take the norm, make ready for the product; gives the buffer of the result."""
        in2, in3 = (*place.pending, program.NONE, program.NONE)[:2]
        fields: dict[str, Any] = {
            "width": self._d,
            "wanted": self._wanted,
            "input": place.x,
            "in2": in2,
            "in3": in3,
        }
        if norm is None:
            self._builder.add(program.NORM, matrix=matrix, **fields)
            return place.x
        assert isinstance(norm, RMSNorm | LayerNorm)
        bias = (
            norm.bias.detach().float().contiguous()
            if isinstance(norm, LayerNorm) and norm.bias is not None
            else None
        )
        kind = program.NORMS["layer" if isinstance(norm, LayerNorm) else "rms"]
        weight = norm.weight.detach().float().contiguous()
        self._builder.add(
            program.NORM,
            out=out,
            matrix=matrix,
            weight=weight,
            bias=bias,
            variant=kind,
            eps=norm.eps,
            **fields,
        )
        return out

    def _gather(self, source: int, target: int) -> int:
        self._builder.add(program.GATHER, input=source, out=target, width=self._d, wanted=1)
        return target

    def _products(
        self, source: int, matrices: list[NativeMatrix], out: int, layers: Sequence[str] = ()
    ) -> None:
        """Several matrices on one input, whose activations are ready for the first; results lie side by side.

        Args:
            layers: places of the linear layers in the model, side by side in the same way, to which adapters may add.
        """
        fields: dict[str, Any] = {"variant": len(layers), "wanted": self._wanted}
        down = len(self._builder.ops)
        if layers:
            self._builder.add(
                program.LOW_RANK_DOWN, input=source, out=self._low, width=matrices[0].k, chained=1, **fields
            )
        column = 0
        for number, matrix in enumerate(matrices):
            if number and not same_activations(matrix, matrices[number - 1]):
                width = self._builder.widths[source]
                self._builder.ops[-1].chained = 0
                self._builder.add(program.NORM, input=source, width=width, wanted=self._wanted, matrix=matrix)
            self._builder.add(
                program.PRODUCT, input=source, out=out, matrix=matrix, offset=column, wanted=self._wanted,
                chained=int(number < len(matrices) - 1),
            )  # fmt: skip
            column += matrix.n
        if layers:
            self.adapted.append((down, len(self._builder.ops), tuple(layers)))
            self.widths |= {name: self._outputs(name) for name in layers}
            self._builder.add(program.LOW_RANK_UP, input=self._low, out=out, width=column, **fields)

    def _outputs(self, place: str) -> int:
        layer = self.model.get_submodule(place)
        assert isinstance(layer, Linear | QuantizedLinear)
        return layer.out_features
