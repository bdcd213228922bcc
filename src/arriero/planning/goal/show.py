"""One screen for `arriero plan --goal`: the answer, why not the others, the doubts, what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.cost.time import TIERS
from arriero.cost.units import (
    format_count,
    format_energy,
    format_flops,
    format_mass,
    format_seconds,
    round_text,
)
from arriero.planning.estimate.figures import gib
from arriero.planning.goal.answer import GoalAnswer
from arriero.planning.goal.others import Other
from arriero.planning.goal.words import MEMORY_KINDS, money, ranged

_SHOWN_DEVICES, _SHOWN_PARETO = 5, 6


def print_answer(answer: GoalAnswer, console: Console) -> None:
    """The whole screen."""
    console.print(f"[bold]Goal[/]: {escape(goal_line(answer))}", highlight=False)
    if answer.best is None:
        console.print(f"[bold red]No plan does[/]: {escape(answer.action)}.", highlight=False)
    else:
        _print_plan(answer, "Best plan", answer.best, console)
    if answer.best is None and answer.closest is not None:
        _print_plan(answer, "Nearest", answer.closest, console)
    for table in (_others(answer), _unknown(answer), _pareto(answer)):
        if table is not None:
            console.print()
            console.print(table, highlight=False)
    console.print()
    console.print(_closing(answer), highlight=False)


def grid(rows: Sequence[tuple[str, ...]], *, title: str = "", right: tuple[int, ...] = ()) -> Table:
    """A borderless table of marked-up cells; columns in ``right`` are set flush right."""
    table = Table(
        box=None,
        show_header=False,
        pad_edge=False,
        title=title or None,
        title_justify="left",
        title_style="bold",
    )
    for number in range(len(rows[0])):
        table.add_column(
            justify="right" if number in right else "left", overflow="fold", no_wrap=number in right
        )
    for row in rows:
        table.add_row(*row)
    return table


def goal_line(answer: GoalAnswer) -> str:
    """`cheapest: llama-3.2-1b (1.24 B parameters), 10 B tokens (74 EFLOP), by Friday 18:00, at most 120 USD`."""
    asked = answer.question
    size = answer.words.variants[0].workload.parameters.total
    parts = [f"{asked.name} ({format_count(size)} parameters)"]
    if asked.tokens is not None:
        parts.append(f"{format_count(asked.tokens)} tokens ({format_flops(answer.flops)})")
    if asked.deadline is not None:
        said = asked.deadline_text
        parts.append(
            f"by {said}" if said[:1].isalpha() else f"within {said or format_seconds(asked.deadline)}"
        )
    if asked.budget is not None:
        parts.append(f"at most {money(asked.budget, answer.words.currency)}")
    return f"{asked.goal}: {', '.join(parts)}"


def _print_plan(answer: GoalAnswer, title: str, row: int, console: Console) -> None:
    words, scores = answer.words, answer.search.scores
    offer, dtype = words.offer(row), words.variant(row).dtype
    tier = TIERS[offer.coefficients[dtype].tier]
    console.print(
        f"[bold]{title}[/]   [bold]{escape(words.devices(row))}[/]   {escape(words.layout(row))}   "
        f"tier {tier.letter} ({tier.name})",
        highlight=False,
    )
    rows = []
    if answer.question.tokens is not None:
        rows += [
            ("  finishes in", ranged(scores.seconds, row, "seconds"), _steps(answer, row)),
            ("  money", ranged(scores.money, row, "money", words.currency), _price(answer, row)),
            ("  energy", ranged(scores.energy, row, "energy"), "devices alone"),
            ("  CO2", format_mass(_known(float(scores.co2.middle[row])), 2), answer.grid),
        ]
    else:
        rows.append(("  speed", speed(answer, row), "all devices together"))
    capacity = float(scores.capacity[row])
    rows.append(
        (
            "  memory",
            ranged(scores.memory, row, "memory"),
            f"of {gib(_known(capacity), 3)}; most of it {_kind(answer, row)}",
        )
    )
    verdict = words.verdict(row)
    tie = words.tie(row) if row == answer.best else ""
    if tie:
        rows.append(("  a tie", tie, ""))
    if verdict:
        rows.append(("  but", verdict, ""))
    elif answer.question.runnable and words.variant(row).method == "full":
        rows.append(("  in a recipe", recipe_words(answer, row), ""))
    console.print(grid([tuple(map(escape, one)) for one in rows]), highlight=False)


def _price(answer: GoalAnswer, row: int) -> str:
    """`2.29 (1.29–2.95) USD an hour and device`, or why it is unknown."""
    price = answer.words.offer(row).price
    if price.value is None or price.low is None or price.high is None:
        return price.source
    band = "" if price.low == price.high else f" ({round_text(price.low)}–{round_text(price.high)})"
    return f"{round_text(price.value)}{band} {answer.words.currency} an hour and device"


def recipe_words(answer: GoalAnswer, row: int) -> str:
    """The settings of a training stage that are this plan."""
    plans, words = answer.search.plans, answer.words
    sizes = {name: int(getattr(plans, name)[row]) for name in ("tensor", "context", "pipeline")}
    parallel = ", ".join(f"{name}: {size}" for name, size in sizes.items() if size > 1)
    devices, zero, dtype = int(plans.devices[row]), int(plans.zero[row]), words.variant(row).dtype
    mode = ("none", "selective", "full")[int(plans.recompute[row])]
    parts = [
        f"batch_size: {answer.batch}",
        f"micro_batch_size: {int(plans.micro_batch[row])}",
        f"precision: {dtype}",
    ]
    if mode != "none":
        parts.append(f"activation_checkpointing: {mode}")
    if devices > 1:
        parts.append(
            "parallel: {" + ", ".join(filter(None, [f"shard: {'full' if zero else 'none'}", parallel])) + "}"
        )
    return ", ".join(parts)


def _known(value: float) -> float | None:
    return None if value != value else value


def _kind(answer: GoalAnswer, row: int) -> str:
    return MEMORY_KINDS[int(answer.search.scores.kind[row])]


def _steps(answer: GoalAnswer, row: int) -> str:
    context = answer.words.variants[0].workload.context
    tokens = answer.batch * context
    return f"{format_count(-(-answer.tokens // tokens))} steps of {format_count(tokens)} tokens"


def speed(answer: GoalAnswer, row: int) -> str:
    seconds = _known(float(answer.search.scores.seconds.middle[row]))
    return "unknown" if seconds is None else f"{format_count(answer.tokens / seconds)} tokens/s"


def _others(answer: GoalAnswer) -> Table | None:
    """Why not another plan."""
    best_objective = [other for other in answer.others if other.label != "other device"]
    devices = [other for other in answer.others if other.label == "other device"]
    shown = [*best_objective, *devices[:_SHOWN_DEVICES]]
    if not shown:
        return None
    rows = [_row(answer, other) for other in shown]
    hidden = len(devices) - _SHOWN_DEVICES
    if hidden > 0:
        rows.append((f"  and {hidden} more devices in --json", "", "", "", ""))
    return grid([tuple(map(escape, row)) for row in rows], title="Why not ...", right=(2, 3))


def _row(answer: GoalAnswer, other: Other) -> tuple[str, str, str, str, str]:
    words, scores = answer.words, answer.search.scores
    time = format_seconds(_known(float(scores.seconds.middle[other.row])), 2)
    cost = _known(float(scores.money.middle[other.row]))
    priced = "unknown" if cost is None else money(cost, words.currency)
    if answer.question.tokens is None:
        time, priced = speed(answer, other.row), ""
    return f"  {other.label}", words.devices(other.row), time, priced, other.why


def _unknown(answer: GoalAnswer) -> Table | None:
    if not answer.unknown:
        return None
    rows = [_row(answer, other) for other in answer.unknown]
    return grid([tuple(map(escape, row[1:])) for row in rows], title="Cannot be judged", right=(1, 2))


def _pareto(answer: GoalAnswer) -> Table | None:
    """The set that nothing beats in money, time and energy at once, thinned out evenly."""
    rows = answer.pareto
    if answer.question.tokens is None or len(rows) < 2:
        return None
    words, scores = answer.words, answer.search.scores
    step = max(1.0, (len(rows) - 1) / (_SHOWN_PARETO - 1))
    picked = list(
        dict.fromkeys(rows[min(round(k * step), len(rows) - 1)] for k in range(min(_SHOWN_PARETO, len(rows))))
    )
    cells = [
        (
            f"  {words.devices(row)}", format_seconds(float(scores.seconds.middle[row]), 2),
            money(float(scores.money.middle[row]), words.currency), format_energy(float(scores.energy.middle[row]), 2),
            "best" if row == answer.best else words.verdict(row),
        )
        for row in map(int, picked)
    ]  # fmt: skip
    title = f"Nothing beats these in money, time and energy at once ({len(picked)} of {len(rows)})"
    return grid([tuple(map(escape, cell)) for cell in cells], title=title, right=(1, 2, 3))


def _closing(answer: GoalAnswer) -> Table:
    rows = [("biggest doubts" if not n else "", f"{d.name} {d.text}") for n, d in enumerate(answer.doubts)]
    if answer.best is not None:
        rows.append(("make it sharper", answer.action))
    rows += [("not included" if not n else "", text) for n, text in enumerate(answer.left_out)]
    rows.append(("looked at", looked_at(answer)))
    return grid([(f"[bold]{name}[/]", escape(text)) for name, text in rows])


def looked_at(answer: GoalAnswer) -> str:
    """How many plans there are, fit, and do."""
    verdict = answer.search.verdict
    end = {"high": "upper end", "middle": "middle", "low": "lower end"}[answer.question.judged_by]
    fits = int((verdict.shortage <= 0).sum())
    text = f"{len(answer.search.plans):,} plans: {fits:,} fit in memory (upper end), {int(verdict.good.sum()):,} do"
    limits = answer.question.deadline is not None or answer.question.budget is not None
    return text + (f"; deadline and budget are held against the {end} of the bands" if limits else "")
