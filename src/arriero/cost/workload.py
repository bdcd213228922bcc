"""What training or running a model asks for, counted from the model itself: the common currency of the cost room.

A :class:`Workload` is made from the model object (`arriero.planning.workload_of`); memory, time and the search over
plans read it and know nothing of families. Every figure is of ONE sequence of ``context`` tokens through one copy of
the model on one device; batches, layers, devices and steps multiply it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from arriero.cost.memory.profile import MemoryProfile

Recompute = Literal["none", "selective", "full"]
Dtype = Literal["fp32", "bf16", "fp8"]


@dataclass(frozen=True)
class Work:
    """Arithmetic and traffic by class.

    Attributes:
        products: FLOP of matrix products with the blocks' weights. Multiply-adds count two.
        head: FLOP of products with the vocabulary's table (and what stands before it, as BERT's transform).
        attention: FLOP of scores and of the mixing of values; causal attention counts the half that is needed.
        elementwise: bytes read and written by all that is no product.
    """

    products: float = 0.0
    head: float = 0.0
    attention: float = 0.0
    elementwise: float = 0.0

    @property
    def flops(self) -> float:
        """All counted arithmetic."""
        return self.products + self.head + self.attention

    def __add__(self, other: Work) -> Work:
        return Work(
            self.products + other.products, self.head + other.head,
            self.attention + other.attention, self.elementwise + other.elementwise,
        )  # fmt: skip

    def __mul__(self, factor: float) -> Work:
        return Work(
            self.products * factor, self.head * factor, self.attention * factor, self.elementwise * factor
        )

    __rmul__ = __mul__

    def __sub__(self, other: Work) -> Work:
        return self + other * -1.0


@dataclass(frozen=True)
class Dimensions:
    """The sizes that layouts must divide and that messages between devices are made of."""

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int


@dataclass(frozen=True)
class Parameters:
    """Parameter counts.

    Attributes:
        block: of one block. rest: of all that is in no block (embeddings, last norm, head; a tied table once).
        looked_up: of ``rest``, what takes part in no product (an untied embedding, position tables).
        trained: of the whole model, what gets gradients (adapters alone with LoRA).
        weight_bytes: bytes of the whole model's weights as they are held (int4, bf16, fp32).
    """

    block: int
    rest: int
    looked_up: int
    trained: int
    total: int
    weight_bytes: float


@dataclass(frozen=True)
class Workload:
    """One sequence on one model.

    Attributes:
        name: what a reader calls it. context: tokens of the sequence. scored: tokens whose loss is taken.
        forward_block, backward_block: of one block; ..._rest: of everything else.
        recomputed_block: what is worked out again in the backward pass of one block, by mode ("none" is nothing).
        saved_block: bytes that one block keeps for the backward pass, by mode. saved_rest: of everything else.
        head_peak: most bytes that logits and their gradients take at once (a block of them where they are chunked).
        work_peak: most bytes of temporaries inside one block, over what is saved.
        kv_token: bytes of one token's keys and values over all layers.
        gradient_bytes: bytes of a trained parameter's gradient. state_bytes: of its optimizer state and master copy.
        once_block, once_rest: what a micro-batch takes once, however many sequences it holds (casts of weights,
            dequantising, relative positions), forward and backward together.
        saved_once_block, saved_once_rest: bytes kept once for a micro-batch (casts of weights), by mode.
        head_gradient: bytes of the head's gradient that the loss makes in the forward pass already; with the
            gradients, not in ``saved_rest``.
        work_once: as ``work_peak``, the part that does not grow with the sequences (a gradient of weights in flight).
        square: attention of the full square over what is counted: 2 where the causal half is, else 1.
        needed: attention that the visible pairs of tokens need over what is counted: 1 for the causal half and for
            encoders, less where a mask hides pairs that are worked out all the same (windows).
        uncounted: operations that look like matrix products but are not counted; empty if all is well.
        memory: what lives at every moment of a step, by mode, as it was traced; without it the closed form goes by the
            figures above, which do not know when what is there.
    """

    name: str
    context: int
    scored: int
    dimensions: Dimensions
    parameters: Parameters
    dtype: Dtype
    forward_block: Work
    forward_rest: Work
    backward_block: Work
    backward_rest: Work
    recomputed_block: Mapping[Recompute, Work] = field(default_factory=dict)
    saved_block: Mapping[Recompute, float] = field(default_factory=dict)
    saved_rest: float = 0.0
    head_peak: float = 0.0
    work_peak: float = 0.0
    kv_token: float = 0.0
    gradient_bytes: float = 4.0
    state_bytes: float = 8.0
    once_block: Work = field(default_factory=Work)
    once_rest: Work = field(default_factory=Work)
    saved_once_block: Mapping[Recompute, float] = field(default_factory=dict)
    saved_once_rest: float = 0.0
    head_gradient: float = 0.0
    work_once: float = 0.0
    square: float = 1.0
    needed: float = 1.0
    uncounted: tuple[str, ...] = ()
    memory: Mapping[Recompute, MemoryProfile] = field(default_factory=dict)

    @property
    def forward(self) -> Work:
        """Of the whole model."""
        return self.forward_block * self.dimensions.n_layers + self.forward_rest

    @property
    def backward(self) -> Work:
        """Of the whole model, without recomputation."""
        return self.backward_block * self.dimensions.n_layers + self.backward_rest

    @property
    def once(self) -> Work:
        """Of the whole model, once for each micro-batch."""
        return self.once_block * self.dimensions.n_layers + self.once_rest

    def recomputed(self, mode: Recompute) -> Work:
        """What ``mode`` works out a second time, of the whole model."""
        return self.recomputed_block.get(mode, Work()) * self.dimensions.n_layers
