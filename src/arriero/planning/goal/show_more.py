"""The screens of `--goal fits` and `--goal best-model`."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.markup import escape

from arriero.cost.units import format_count
from arriero.planning.goal.best_model import BestModelAnswer
from arriero.planning.goal.export import plan_json, to_json
from arriero.planning.goal.fits import FitsAnswer, MethodFit
from arriero.planning.goal.show import grid, print_answer, speed
from arriero.planning.goal.words import money, ranged


def print_fits(found: FitsAnswer, console: Console) -> None:
    """What the card can train, a line a method, then how."""
    asked = found.question
    most = max(asked.device_counts)
    card = found.device if most == 1 else f"up to {most}x {found.device}"
    subject = (
        asked.name or f"the largest of {len(found.tried)} models from {found.tried[0]} to {found.tried[-1]}"
    )
    console.print(f"[bold]Goal[/]: what fits {escape(card)}: {escape(subject)}", highlight=False)
    rows = [tuple(map(escape, _fit_row(fit))) for fit in found.by_method]
    console.print(grid([("[bold]method[/]", "[bold]model[/]", "[bold]memory[/]", "[bold]speed[/]", "[bold]how[/]"), *rows]),
                  highlight=False)  # fmt: skip
    console.print(
        "\nEach is the fastest plan whose memory's upper end fits. LoRA trains adapters alone, on bf16 weights (qlora: on int4 "
        "ones), which is not the same training.",
        highlight=False,
    )


def _fit_row(fit: MethodFit) -> tuple[str, str, str, str, str]:
    if fit.answer is None:
        return fit.method, "none of them", "", "", ""
    row = fit.answer.best if fit.answer.best is not None else fit.answer.closest
    if row is None:
        return fit.method, fit.model, "unknown", "", ""
    memory = ranged(fit.answer.search.scores.memory, row, "memory")
    if fit.answer.best is None:
        return fit.method, fit.model, memory, "", f"does not fit: {fit.answer.words.verdict(row)}"
    return fit.method, fit.model, memory, speed(fit.answer, row), fit.answer.words.layout(row)


def fits_json(found: FitsAnswer) -> dict[str, Any]:
    """What :func:`print_fits` shows, as data."""
    methods = []
    for fit in found.by_method:
        row = (
            None
            if fit.answer is None
            else fit.answer.best
            if fit.answer.best is not None
            else fit.answer.closest
        )
        plan = None if fit.answer is None or row is None else plan_json(fit.answer, row)
        methods.append({"method": fit.method, "model": fit.model or None, "fits": fit.fits, "plan": plan})
    return {
        "format": "arriero.goal-fits/1",
        "device": found.device,
        "tried": list(found.tried),
        "methods": methods,
    }


def print_best_model(found: BestModelAnswer, console: Console) -> None:
    """The candidates with the loss that the law gives them, then the plan of the best."""
    asked = found.question
    currency = "USD" if found.answer is None else found.answer.words.currency
    within = f" within {asked.deadline_text}" if asked.deadline is not None else ""
    console.print(
        f"[bold]Goal[/]: the best model for {money(asked.budget or 0.0, currency)}{escape(within)}",
        highlight=False,
    )
    rows = [(_name(found, n), *_candidate_row(found, n)) for n in range(len(found.candidates))]
    head = (
        "[bold]model[/]",
        "[bold]parameters[/]",
        "[bold]tokens[/]",
        "[bold]a parameter[/]",
        "[bold]loss by the law[/]",
    )
    console.print(grid([head, *rows], right=(1, 2, 3, 4)), highlight=False)
    console.print(
        f"law: {escape(found.law.name)}, {escape(found.law.source)}; nats a token of its own data",
        highlight=False,
    )
    if found.edge:
        console.print("the best is at the edge of those tried; --models names others", highlight=False)
    console.print()
    if found.answer is None:
        console.print(
            "[bold red]No plan does[/]: not one step of any candidate is within the limits.", highlight=False
        )
    else:
        print_answer(found.answer, console)


def _name(found: BestModelAnswer, number: int) -> str:
    name = escape(found.candidates[number].name)
    return f"[bold]{name}[/]" if number == 0 and found.answer is not None else name


def _candidate_row(found: BestModelAnswer, number: int) -> tuple[str, str, str, str]:
    one = found.candidates[number]
    if not one.tokens:
        return format_count(one.parameters), "no plan does", "", ""
    return (
        format_count(one.parameters),
        format_count(one.tokens),
        f"{one.tokens / one.parameters:,.1f}",
        f"{one.loss:.3f}",
    )


def best_model_json(found: BestModelAnswer) -> dict[str, Any]:
    """What :func:`print_best_model` shows, as data."""
    return {
        "format": "arriero.goal-best-model/1",
        "law": found.law.name,
        "candidates": [
            {"model": one.name, "parameters": one.parameters, "tokens": one.tokens or None,
             "loss": None if math.isinf(one.loss) else one.loss} for one in found.candidates
        ],
        "edge": found.edge,
        "answer": None if found.answer is None else to_json(found.answer),
    }  # fmt: skip
