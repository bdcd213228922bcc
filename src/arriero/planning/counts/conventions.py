"""One model's training FLOPs a token under the conventions that people quote, from one count of its forward pass."""

from __future__ import annotations

from arriero.cost.workload import Workload


def conventions(workload: Workload) -> dict[str, float]:
    """FLOPs a token of training by the name of the convention (they differ by up to a factor of three).

    With ``2 N_mm`` the forward pass's products with weights (head included, tables that are only looked up not) and
    ``A`` the forward pass's attention as far as tokens see each other (causal: half the square):

    * ``6N``: 6 times all parameters (Kaplan et al., arXiv 2001.08361, with embeddings). ``6N non-embedding``: those of the
      blocks alone.
    * ``6N_mm``: products alone. ``causal``: with ``3 A``, the model's own arithmetic, which MFU should go by.
    * ``full square``: ``6 A``, as in PaLM's appendix B (arXiv 2204.02311), whatever the mask.
    * ``executed``: ``3.5 A``, flash attention's backward pass being 2.5 times its forward pass.
    * ``full recompute``: executed, and each block's forward pass once more. The last product of a block is not really
      worked out again where nothing needs it (torch stops early); ``Workload.recomputed`` has what is.
    * ``selective recompute``: executed, and attention once more (Korthikanti et al., arXiv 2205.05198).
    * ``LoRA``: ``4 N_mm`` and ``3 A``: no gradients of the weights; adapters are small beside it and left out.

    ``counted`` is what the traced passes take, forward and backward, with the frozen weights, masks and norms that there
    are: the figure that is priced. The names hold for workloads whose every position is scored.
    """
    forward, blocks = workload.forward, workload.forward_block * workload.dimensions.n_layers
    products = forward.products + forward.head
    seen = forward.attention * workload.needed
    executed = 3 * products + 3.5 * seen
    in_blocks = seen * (blocks.attention / forward.attention) if forward.attention else 0.0
    parameters = workload.parameters
    whole = {
        "6N_mm": 3 * products,
        "causal": 3 * (products + seen),
        "full square": 3 * (products + forward.attention * workload.square),
        "executed": executed,
        "selective recompute": executed + in_blocks,
        "full recompute": executed + blocks.products + in_blocks,
        "LoRA": 2 * products + 3 * seen,
        "counted": forward.flops + workload.backward.flops,
    }
    return {
        "6N": 6.0 * parameters.total,
        "6N non-embedding": 6.0 * parameters.block * workload.dimensions.n_layers,
        **{name: flops / workload.context for name, flops in whole.items()},
    }
