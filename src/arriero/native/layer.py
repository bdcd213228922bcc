"""The tiles of a layer with low-bit weights: made when they are first needed and again when the weights change."""

from __future__ import annotations

from torch import Tensor

from arriero.native.matrices import NativeMatrix, low_bit_packed, why_not_low_bit


class TilesOfLayer:
    """Keeps the native form of one layer's weights beside its packed codes, which files and exports are made of.

    Attributes:
        only: the native form where it is all that is kept of the codes; None: they are there beside it.
    """

    def __init__(self) -> None:
        self._made_of: tuple[tuple[int, int], ...] = ()
        self._tiles: NativeMatrix | None = None
        self.only: NativeMatrix | None = None

    def __deepcopy__(self, memo: object) -> TilesOfLayer:
        """A copy of a layer makes its own; what is all that there is, is never written to and shared."""
        copied = TilesOfLayer()
        copied.only = self.only
        return copied

    def __reduce__(self) -> tuple[type, tuple[()], dict[str, object]]:
        return TilesOfLayer, (), {"only": self.only}

    def of(
        self, packed: Tensor, scales: Tensor, k: int, bits: int, bias: Tensor | None
    ) -> NativeMatrix | None:
        """The tiles of these weights (see ``low_bit_packed``); None where there is no native product for them."""
        if why_not_low_bit(bits, k, scales.shape[1]):
            return None
        state = tuple(_state(tensor) for tensor in (packed, scales, bias))
        if state != self._made_of:
            self._tiles = low_bit_packed(packed.detach(), k, scales.detach(), bits, bias)
            self._made_of = state
        return self._tiles


def _state(tensor: Tensor | None) -> tuple[int, int]:
    """Changes when the tensor is another one or was written to; inference tensors do not count their writes."""
    if tensor is None:
        return 0, 0
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
