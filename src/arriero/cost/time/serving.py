"""Seconds of answering: a prompt read at once (prefill) and then a token at a time (decode), by the roofline.

Arithmetic of the blocks is the workload's own; of the vocabulary's table one position a prompt (prefill) or a token
(decode) is worked out, which is counted here from the sizes, for a training workload counts every position and its
gradient. Weights and keys stream at the rate of large blocks.
"""

from __future__ import annotations

import numpy as np

from arriero.cost.cut import Count
from arriero.cost.time.coefficients import Coefficients
from arriero.cost.time.terms import Seconds
from arriero.cost.time.units import Number
from arriero.cost.workload import Workload


def prefill_seconds(
    workload: Workload, *, tokens: Count, batch: Count = 1, coefficients: Coefficients, tensor: Count = 1,
    captured: bool = False,
) -> Seconds:  # fmt: skip
    """Time to the first token of ``batch`` prompts of ``tokens`` tokens each.

    Args:
        workload: at any context; products and traffic go with the length, attention with its square.
        tokens, batch, tensor: numbers or arrays of one shape; ``tensor`` devices share each matrix.
        captured: the device replays a captured graph, so that the host launches nothing.
    """
    per, length, parts = coefficients, np.asarray(tokens) / workload.context, np.asarray(tensor)
    rows = np.asarray(batch) / parts
    block = workload.forward_block * workload.dimensions.n_layers
    compute = rows * (
        length * block.products * per.of("products") + length**2 * block.attention * per.of("attention")
        + _head_flop(workload) * per.of("head")
    )  # fmt: skip
    weights = _read_bytes(workload) / parts * per.stream
    streamed = rows * length * block.elementwise * per.of("elementwise")
    device = (
        np.maximum(compute, weights) + streamed + _exchange(workload, np.asarray(batch) * tokens, parts, per)
    )
    return np.hypot(device, _launching(workload, per, captured))


def decode_seconds(
    workload: Workload, *, context: Count, batch: Count = 1, coefficients: Coefficients, tensor: Count = 1,
    captured: bool = False,
) -> Seconds:  # fmt: skip
    """One step of decoding: a token for each of ``batch`` answers that are ``context`` tokens long so far.

    The larger of arithmetic and traffic, for the weights (read once a step, whatever the batch) and for the keys and
    values (read for every answer) each. Arguments as in :func:`prefill_seconds`.
    """
    size, per, parts = workload.dimensions, coefficients, np.asarray(tensor)
    rows, length = np.asarray(batch) / parts, np.asarray(context)
    block = workload.forward_block * (size.n_layers / workload.context)
    products = rows * (block.products * per.of("products") + _head_flop(workload) * per.of("head"))
    weights = _read_bytes(workload) / parts * per.stream
    scores = rows * 4.0 * size.n_layers * size.n_heads * size.head_dim * length * per.of("attention")
    keys = rows * workload.kv_token * length * per.stream
    light = rows * block.elementwise * per.of("elementwise")
    device = np.maximum(products, weights) + np.maximum(scores, keys) + light
    return np.hypot(
        device + _exchange(workload, np.asarray(batch), parts, per), _launching(workload, per, captured)
    )


def _head_flop(workload: Workload) -> float:
    """Of one position."""
    return 2.0 * workload.dimensions.d_model * workload.dimensions.vocab_size


def _read_bytes(workload: Workload) -> float:
    """Weights that a pass reads: all but tables that rows are looked up in."""
    counted = workload.parameters
    return counted.weight_bytes * (1 - counted.looked_up / max(counted.total, 1))


def _exchange(workload: Workload, tokens: Number, parts: np.ndarray, per: Coefficients) -> Seconds:
    """Two all-reduces of the hidden states a block."""
    layers, width = workload.dimensions.n_layers, 4.0 if workload.dtype == "fp32" else 2.0
    volume = 4.0 * layers * tokens * workload.dimensions.d_model * width * (parts - 1) / parts
    seconds = volume * per.of("all_reduce") + 2 * layers * np.log2(np.maximum(parts, 2)) * per.of("hop")
    return np.where(parts > 1, seconds, 0.0)


def _launching(workload: Workload, per: Coefficients, captured: bool) -> float:
    return 0.0 if captured else workload.dimensions.n_layers * per.of("launch")
