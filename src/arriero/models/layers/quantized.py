"""A linear layer that keeps its weight as packed low-bit codes with scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from arriero.errors import ArrieroError
from arriero.models.layers.linear import Linear
from arriero.models.layers.packing import pack, packed_columns, unpack
from arriero.native.layer import TilesOfLayer
from arriero.native.linear import linear as native_linear
from arriero.native.linear import takes
from arriero.native.matrices import NativeMatrix, codes_of
from arriero.products import linear


@dataclass(frozen=True)
class WeightScheme:
    """Symmetric weight-only quantisation: code * scale, one scale per output channel or per group of inputs."""

    bits: int
    group_size: int | None = None
    """Inputs that share a scale; None: the whole row (one scale per output channel)."""

    BITS: ClassVar[tuple[int, ...]] = (4, 8)

    @property
    def name(self) -> str:
        return f"int{self.bits}"

    @property
    def largest(self) -> int:
        """Largest code; the smallest is ``-largest - 1``."""
        return (1 << (self.bits - 1)) - 1

    def groups(self, columns: int, where: str) -> int:
        """Scales in a row of ``columns`` weights.

        Raises:
            ArrieroError: the group size does not divide the row; ``where`` names the layer.
        """
        if self.group_size is None:
            return 1
        if columns % self.group_size:
            fitting = [size for size in (128, 64, 32, 16) if columns % size == 0]
            advice = f"{fitting[0]} does" if fitting else "use one scale per channel (int8)"
            raise ArrieroError(
                f"group_size {self.group_size} does not divide the {columns} inputs of {where}; {advice}"
            )
        return columns // self.group_size


class QuantizedLinear(nn.Module):
    """``y = x (codes * scale)^T + bias``. Not trainable.

    In inference (no gradients wanted) on a CPU with the native library the product is one of integers: x is rounded
    to int8 with a scale for each 32 inputs, which changes y by some 0.5 % of its size; a row's result does not depend
    on the rows beside it. Everywhere else, under ``ARRIERO_NATIVE=0`` and inside ``native.linear.exact_products()``
    the arithmetic is weight-only: the weight is dequantised at every call and x is left as it is.

    An engine that owns its model has the codes kept as native tiles alone (:meth:`keep_tiles`): then ``weight_packed``
    is no buffer but is made anew for whoever asks, files and copies among them.

    Buffers: ``weight_packed`` int32 [out, ceil(in bits / 32)], ``weight_scale`` float [out, groups],
    ``weight_shape`` int64 [2]; the names and shapes are those of compressed-tensors.
    """

    weight_packed: Tensor
    weight_scale: Tensor
    weight_shape: Tensor

    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        scheme: WeightScheme,
        where: str = "a layer",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.scheme = in_features, out_features, scheme
        groups = scheme.groups(in_features, where)
        packed = torch.empty(out_features, packed_columns(in_features, scheme.bits), dtype=torch.int32)
        self.register_buffer("weight_packed", packed)
        self.register_buffer("weight_scale", torch.empty(out_features, groups))
        self.register_buffer("weight_shape", torch.tensor([out_features, in_features], dtype=torch.int64))
        self.register_buffer("bias", torch.empty(out_features) if bias else None)
        self._tiles = TilesOfLayer()

    def keep_tiles(self, tiles: NativeMatrix) -> None:
        """Keep the codes in this form alone, which must be theirs. Other weights come by ``load_state_dict``."""
        self._tiles.only = tiles
        self._buffers.pop("weight_packed", None)

    def keep_packed(self) -> None:
        """Have ``weight_packed`` as a buffer again."""
        if self._tiles.only is not None:
            packed, self._tiles = self.weight_packed, TilesOfLayer()
            self.register_buffer("weight_packed", packed)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name != "weight_packed" or "_tiles" not in self.__dict__ or self._tiles.only is None:
                raise
        return pack(codes_of(self._tiles.only), self.scheme.bits)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self._tiles.only is not None:
            destination[prefix + "weight_packed"] = self.weight_packed
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self.keep_packed()
        super()._load_from_state_dict(*args, **options)

    def _apply(self, *args: Any, **options: Any) -> Any:
        self.keep_packed()  # it may go to another device
        return super()._apply(*args, **options)

    @property
    def packed_bytes(self) -> int:
        """Bytes of ``weight_packed``, whether or not it is there."""
        return 4 * self.out_features * packed_columns(self.in_features, self.scheme.bits)

    def codes(self) -> Tensor:
        """The weight's codes: int8 [out, in]."""
        if self._tiles.only is not None:
            return codes_of(self._tiles.only)
        return unpack(self.weight_packed, self.scheme.bits, self.in_features)

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """The weight that the codes stand for: [out, in]."""
        codes = self.codes().to(dtype).view(self.out_features, self.weight_scale.shape[1], -1)
        return codes.mul_(self.weight_scale.to(dtype).unsqueeze(2)).view(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out] in the dtype of x."""
        if takes(x):
            tiles = self._tiles.only or self._tiles.of(
                self.weight_packed, self.weight_scale, self.in_features, self.scheme.bits, self.bias
            )
            if tiles is not None:
                return native_linear(x, tiles)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return linear(x, self.dequantised(x.dtype), bias)

    def extra_repr(self) -> str:
        group = f", group_size={self.scheme.group_size}" if self.scheme.group_size else ""
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.scheme.name}{group}"


def quantizable(model: nn.Module) -> dict[str, Linear]:
    """The linear layers inside the blocks, by name: what quantisation applies to (never the head)."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Linear) and name.startswith("blocks.")
    }


def use_quantized_layers(model: nn.Module, scheme: WeightScheme) -> None:
    """Put empty quantised layers in the place of every quantisable layer of ``model``.

    Raises:
        ArrieroError: the scheme's group size does not fit a layer.
    """
    for name, layer in quantizable(model).items():
        bias = layer.bias is not None
        quantised = QuantizedLinear(layer.in_features, layer.out_features, scheme, where=name, bias=bias)
        replace_layer(model, name, quantised)


def use_plain_layers(model: nn.Module, dtype: torch.dtype) -> None:
    """Put plain layers with the dequantised weights in the place of every quantised layer of ``model``."""
    quantised = {name: m for name, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    for name, layer in quantised.items():
        with torch.device(layer.weight_packed.device):
            plain = Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        plain.weight = nn.Parameter(layer.dequantised(dtype))
        if layer.bias is not None:
            plain.bias = nn.Parameter(layer.bias.to(dtype))
        replace_layer(model, name, plain)


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` at the place ``name`` of ``model``."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)
