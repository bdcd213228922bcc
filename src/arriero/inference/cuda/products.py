"""Other products in the place of a model's own, for the time of a step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType

from torch import Tensor, nn

from arriero.inference.cuda import fp8, low_bit
from arriero.models.layers.quantized import QuantizedLinear


class ReplacedProducts:
    """A context in which linear layers of a model compute by the kernels of this package.

    The layers stay what they are, so that hooks (those of adapters) still see their inputs and outputs, and outside of the
    context the model computes as ever.

    Args:
        float8: plain layers within the blocks multiply in float8; their weights are kept twice then.
    """

    def __init__(self, model: nn.Module, float8: bool = False) -> None:
        self._model, self._float8 = model, float8
        self._products: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = []
        self.refresh()

    def refresh(self) -> None:
        """Look at the model's layers and weights again."""
        self._products = []
        for name, layer in self._model.named_modules():
            if isinstance(layer, QuantizedLinear):
                self._products.append((layer, partial(low_bit.product, layer)))
            elif self._float8 and name.startswith("blocks.") and fp8.Float8Weight.takes(layer):
                assert isinstance(layer, nn.Linear)
                self._products.append((layer, fp8.Float8Weight(layer).product))

    def __len__(self) -> int:
        return len(self._products)

    def __enter__(self) -> None:
        for layer, product in self._products:
            layer.__dict__["forward"] = product

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer, _ in self._products:
            layer.__dict__.pop("forward", None)
