"""The workload of a published model from its sizes alone, for runs of models that Arriero has no code of.

Arriero's own models are counted from the model object (``arriero.planning.workload_of``); this is for replaying what
others measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost.workload import Dimensions, Dtype, Parameters, Recompute, Work, Workload

_SCORE_PASSES = 6.0
"""Values read or written for one score outside the products: mask and softmax in one kernel, dropout, its result."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder: GPT-2's kind by default.

    Attributes:
        gated: SwiGLU. tied: one table for input and output. positions: learned ones in the table.
        fused: attention keeps its scores on the chip (flash attention); otherwise the whole square is worked out, and
            written and read several times on its way through mask, softmax and dropout.
    """

    d_model: int
    n_layers: int
    n_heads: int
    vocab_size: int
    n_kv_heads: int | None = None
    head_dim: int | None = None
    d_ff: int | None = None
    gated: bool = False
    tied: bool = True
    positions: int = 0
    fused: bool = True

    @property
    def dimensions(self) -> Dimensions:
        return Dimensions(
            self.d_model, self.n_layers, self.n_heads, self.n_kv_heads or self.n_heads,
            self.head_dim or self.d_model // self.n_heads, self.d_ff or 4 * self.d_model, self.vocab_size,
        )  # fmt: skip


def workload_of_shape(
    shape: Shape, context: int, *, name: str = "", dtype: Dtype = "bf16", weight_bytes: float = 2.0,
    gradient_bytes: float = 2.0, state_bytes: float = 8.0,
) -> Workload:  # fmt: skip
    """One sequence of ``context`` tokens. FLOP: exact products, half of the attention square (causal), its backward
    pass 2.5 x its forward (flash attention works the scores out again)."""
    size = shape.dimensions
    width = 4.0 if dtype == "fp32" else 2.0
    heads, keys = size.n_heads * size.head_dim, size.n_kv_heads * size.head_dim
    matrices = size.d_model * (2 * heads + 2 * keys) + (3 if shape.gated else 2) * size.d_model * size.d_ff
    scores = 0.0 if shape.fused else _SCORE_PASSES * size.n_heads * context
    values = scores + 18 * size.d_model + 3.6 * (heads + keys) + (5.4 if shape.gated else 3.6) * size.d_ff
    block = (
        Work(2.0 * matrices, 0.0, (2.0 if shape.fused else 4.0) * heads * context, width * values) * context
    )
    head = Work(0.0, 2.0 * size.d_model * size.vocab_size, 0.0, 12.0 * size.vocab_size) * context
    table = size.vocab_size * size.d_model
    rest = table * (1 if shape.tied else 2) + shape.positions * size.d_model
    total = size.n_layers * matrices + rest
    back = Work(
        2 * block.products, 0.0, (2.5 if shape.fused else 2.0) * block.attention, 2.7 * block.elementwise
    )
    again: dict[Recompute, Work] = {
        "none": Work(),
        "selective": Work(0.0, 0.0, block.attention, 0.0),
        "full": block,
    }
    return Workload(
        name=name, context=context, scored=context, dimensions=size,
        parameters=Parameters(matrices, rest, rest - table, total, total, weight_bytes * total), dtype=dtype,
        forward_block=block, forward_rest=head, backward_block=back, backward_rest=2 * head, recomputed_block=again,
        kv_token=2 * keys * width * size.n_layers, gradient_bytes=gradient_bytes, state_bytes=state_bytes,
    )  # fmt: skip
