"""The laws of Kaplan et al. 2020 (arXiv 2001.08361): history, kept to be compared with.

They led to models far too large for their data (GPT-3: 1.7 tokens a parameter). Two reasons are known: N leaves out
the embeddings, and runs were read off in the middle of a learning-rate schedule made for longer ones
(Pearce and Song 2024, arXiv 2406.12907; Hoffmann et al. 2022). Nothing here is used for a plan.
"""

from __future__ import annotations

import math

from arriero.cost.scaling.law import Allocation
from arriero.errors import ArrieroError

PF_DAY = 1e15 * 86400
"""FLOP of a petaflop/s-day, the paper's unit."""
N_C, ALPHA_N = 8.8e13, 0.076
D_C, ALPHA_D = 5.4e13, 0.095
C_C, ALPHA_C = 3.1e8, 0.050
_SIZE, _SIZE_POWER = 1.3e9, 0.73
_TOKENS, _TOKENS_POWER = 2e10, 0.27


def loss_of_size(parameters: float) -> float:
    """L(N) = (8.8e13 / N)^0.076 nats a token, trained to the end on enough data; N without embeddings (eq. 1.1)."""
    return float((N_C / parameters) ** ALPHA_N)


def loss_of_data(tokens: float) -> float:
    """L(D) = (5.4e13 / D)^0.095 nats a token, of a large model stopped early (eq. 1.2)."""
    return float((D_C / tokens) ** ALPHA_D)


def loss_of_compute(flops: float) -> float:
    """L(C_min) = (3.1e8 PF-days / C)^0.050 nats a token (eq. 1.3)."""
    return float((C_C / (flops / PF_DAY)) ** ALPHA_C)


def optimal(flops: float) -> Allocation:
    """N = 1.3e9 C^0.73 and D = 2e10 C^0.27, with C in PF-days (the paper's appendix A).

    6 N D of these is not exactly C: the two exponents are separate, rounded fits.

    Raises:
        ArrieroError: the budget is not a positive number.
    """
    if not (math.isfinite(flops) and flops > 0):
        raise ArrieroError(f"a compute budget is a positive number of FLOP, not {flops}")
    days = flops / PF_DAY
    return Allocation(_SIZE * days**_SIZE_POWER, _TOKENS * days**_TOKENS_POWER, flops, loss_of_compute(flops))
