"""The one thing to do next: what would make a run fit that does not, otherwise the next question to ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from arriero.cost.units import format_seconds
from arriero.errors import ArrieroError
from arriero.planning.estimate.figures import gib, percent
from arriero.planning.estimate.outcome import Outcome, case_of, outcome_of
from arriero.planning.estimate.question import Question

_MOST_DEVICES = 65536
_MUCH = 0.4
"""Share of a step spent waiting from which on fewer devices are worth a look."""


def remedy(outcome: Outcome) -> str:
    """What to do now: of the changes that would make it fit the first, the least that is given up."""
    if outcome.fit.short is None:
        return ""
    if not outcome.fit.short:
        return (
            _waiting(outcome)
            or "`arriero plan --goal` compares devices, counts and layouts for a budget or a deadline"
        )
    for option, question in _changes(outcome):
        found = _outcome(question)
        if found is not None and found.fit.short == 0:
            time = f", {format_seconds(found.wall.value)}" if found.wall.value is not None else ""
            return f"{option} fits: {gib(found.fit.total.high)} at most{time}"
    return (
        "no number of these devices, recomputation or adapters makes it fit: take a device with more memory"
    )


def _waiting(outcome: Outcome) -> str:
    """Where devices mostly wait for each other: how many fewer would do the same, for how much."""
    terms = {part.name: part.seconds for part in outcome.step}
    whole = sum(terms.values())
    waits = terms.get("communication", 0.0) + terms.get("bubble", 0.0)
    count = outcome.case.question.count
    if not whole > 0 or waits < _MUCH * whole or count < 2 or outcome.wall.value is None:
        return ""
    free = replace(
        outcome.case.question,
        parallel=None,
        zero=None,
        micro_batch=None,
        recompute=None,
        count=max(1, count // 4),
    )
    fewer = _outcome(free)
    if fewer is None or fewer.wall.value is None or fewer.fit.short:
        return ""
    share = count / max(1, count // 4) * outcome.wall.value / fewer.wall.value
    if share < 1.1:
        return ""
    return (
        f"devices wait for each other {percent(waits / whole)} of a step: --count {max(1, count // 4)} takes "
        f"{format_seconds(fewer.wall.value)} and {percent(1 / share)} of the money; a larger --batch-tokens helps too"
    )


def _outcome(question: Question) -> Outcome | None:
    try:
        return outcome_of(case_of(question))
    except ArrieroError:
        return None


def _changes(outcome: Outcome) -> Iterator[tuple[str, Question]]:
    """(as options, the question with it): layout first, then more devices, then other methods."""
    asked, layout = outcome.case.question, outcome.layout
    if asked.recompute not in (None, "full"):
        yield "--recompute full", replace(asked, recompute="full")
    if asked.micro_batch not in (None, 1):
        yield "--micro-batch 1", replace(asked, micro_batch=1)
    if asked.zero not in (None, 3) and int(layout.cut.sharers) > 1:
        yield "--zero 3", replace(asked, zero=3)
    if asked.parallel is not None:
        yield "without --parallel, the layout that is found", replace(asked, parallel=None)
    free = replace(asked, parallel=None, zero=None, micro_batch=None, recompute=None)
    if outcome.case.device.hardware is not None:
        for count in _counts(asked.count):
            yield f"--count {count}", replace(free, count=count)
    if not asked.lora_rank:
        yield "--lora-rank 16", replace(free, lora_rank=16, objective=asked.objective or "sft")
        yield (
            "--lora-rank 16 --weights int4",
            replace(free, lora_rank=16, weights="int4", objective=asked.objective or "sft"),
        )
    elif asked.weights != "int4":
        yield "--weights int4", replace(free, weights="int4")


def _counts(count: int) -> Iterator[int]:
    """Powers of two above ``count``."""
    more = 1 << count.bit_length()
    while more <= _MOST_DEVICES:
        yield more
        more *= 2
