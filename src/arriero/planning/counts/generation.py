"""Forward passes of other lengths and single steps of generation, from the workload of one length.

Products and element-wise passes go with the tokens, scores and mixing of values with the pairs of tokens: the two
parts are in the workload, so that a step behind a cache needs no trace of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from arriero.cost.workload import Work, Workload
from arriero.errors import ArrieroError


@dataclass(frozen=True)
class Step:
    """One step of generation for a whole batch.

    Attributes:
        work: its arithmetic; one token of each sequence.
        weight_bytes: read once for all sequences; a table of which only rows are looked up is left out.
        kv_bytes: keys and values read, which no batch shares.
    """

    work: Work
    weight_bytes: float
    kv_bytes: float


def prefill_work(workload: Workload, tokens: int) -> Work:
    """The prompt's forward pass, whose last position alone goes through the head.

    Args:
        tokens: of the prompt; causal attention counts half its square.
    """
    _check(workload)
    share = tokens / workload.context
    forward = workload.forward
    seen = forward.attention * workload.needed * share**2
    body = replace(_body(workload) * share, attention=seen)
    return body + _head_token(workload)


def decode_step(workload: Workload, *, batch: int, context: int) -> Step:
    """One more token for each of ``batch`` sequences.

    Args:
        context: tokens that the new one sees, itself included: those in the cache, or in the window where one is shorter.
    """
    _check(workload)
    one = _body(workload) * (1 / workload.context)
    pair = workload.forward.attention * workload.square / workload.context**2
    work = replace(one, attention=pair * context) + _head_token(workload)
    parameters = workload.parameters
    read = 1 - (parameters.looked_up / parameters.total)
    return Step(work * batch, parameters.weight_bytes * read, batch * context * workload.kv_token)


def generation_work(workload: Workload, prompt: int, response: int) -> Work:
    """All of one sequence: the prompt gives the first token, each other one takes a step.

    Steps see ``prompt + 1`` to ``prompt + response - 1`` tokens.
    """
    steps = response - 1
    if steps < 1:
        return prefill_work(workload, prompt)
    middle = decode_step(
        workload, batch=2, context=2 * prompt + steps + 1
    ).work  # twice the mean: it may be odd
    half = decode_step(workload, batch=1, context=0).work
    attention = middle.attention / 4 * steps
    return prefill_work(workload, prompt) + replace(half * steps, attention=attention)


def _body(workload: Workload) -> Work:
    """The forward pass without the head's products."""
    return replace(workload.forward, head=0.0)


def _head_token(workload: Workload) -> Work:
    """The head of one position."""
    return Work(head=workload.forward.head / workload.scored)


def _check(workload: Workload) -> None:
    if not workload.kv_token:
        raise ArrieroError(
            f"{workload.name} has no cache of keys and values: it is not generated with step by step"
        )
