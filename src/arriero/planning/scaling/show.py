"""Scaling laws as text: the answer first, then what it rests on."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.cost.scaling.bootstrap import Prediction
from arriero.cost.scaling.inference_aware import Life, Overtraining
from arriero.cost.scaling.law import Allocation, ParametricLaw
from arriero.cost.units import format_count, format_flops
from arriero.planning.scaling.answers import BenchmarkAnswer, Choice, FitAnswer, Optimum


def print_optimum(answer: Optimum, console: Console) -> None:
    """The best model of a budget."""
    best, flops = answer.best, answer.budget.flops
    console.print(
        f"[bold]{format_count(best.parameters)} parameters on {format_count(best.tokens)} tokens[/]: the best use of "
        f"{format_flops(flops.value)} under {escape(best.law)}"
        + (f", a loss of {best.loss:.3f} nats a token" if best.loss is not None else ""),
        highlight=False,
    )
    if flops.low != flops.high:
        console.print(
            f"  with the band of the budget: {format_count(answer.low.parameters)} on {format_count(answer.low.tokens)} to "
            f"{format_count(answer.high.parameters)} on {format_count(answer.high.tokens)}",
            highlight=False,
        )
    table = _table("law", "parameters", "tokens", "tokens a parameter", "loss")
    for choice in (best, *answer.others):
        table.add_row(*_choice(choice))
    console.print(table)
    _lines("Rests on", [f"{best.law}: {best.source}", *answer.budget.lines], console)
    _lines("Mind", answer.notes, console)


def _choice(choice: Choice) -> list[str]:
    ratio = choice.tokens / choice.parameters
    return [
        escape(choice.law), format_count(choice.parameters), format_count(choice.tokens), f"{ratio:.3g}",
        f"{choice.loss:.3f}" if choice.loss is not None else "–",
    ]  # fmt: skip


def print_fit(answer: FitAnswer, console: Console) -> None:
    """A fitted law with its intervals, its runs and its predictions."""
    law, runs = answer.fit.law, answer.fit.runs
    console.print(f"[bold]{_formula(law)}[/]", highlight=False)
    table = _table("", "fit", f"{answer.confidence:.0%} interval")
    for name, (low, high) in answer.intervals.items():
        value = law.size_exponent if name == "size_exponent" else getattr(law, name)
        title = "a in N ~ C^a" if name == "size_exponent" else name
        table.add_row(title, f"{value:.4g}", f"{low:.4g} to {high:.4g}")
    console.print(table)
    table = _table("run", "parameters", "tokens", "loss", "law", "off")
    fitted = law.loss(runs.parameters, runs.tokens)
    for i, name in enumerate(runs.names):
        table.add_row(
            escape(name), format_count(float(runs.parameters[i])), format_count(float(runs.tokens[i])),
            f"{runs.losses[i]:.4f}", f"{fitted[i]:.4f}", f"{answer.fit.residuals[i]:+.2%}",
        )  # fmt: skip
    console.print(table)
    console.print(f"a run lies about {answer.fit.scatter:.2%} off the law", highlight=False)
    for made in answer.predictions:
        for line in _prediction(made):
            console.print(line, highlight=False)
    _lines("Mind", answer.notes, console)


def _prediction(made: Prediction) -> list[str]:
    model = made.model
    first = (
        f"[bold]{format_count(model.parameters)} parameters on {format_count(model.tokens)} tokens "
        f"({format_flops(model.flops)}): {model.loss:.3f} nats a token[/], {made.low:.3f} to {made.high:.3f} for a run"
    )
    reach = f", {made.decades:.1f} decades beyond the largest run" if made.decades else ", within the runs"
    return [first + reach, *(f"  {escape(note)}" for note in made.notes)]


def print_overtraining(answer: Overtraining, law: ParametricLaw, tokens: float, console: Console) -> None:
    """The cheapest model over its life beside the compute-optimal one of the same loss."""
    best = answer.best.model
    saved = 1 - answer.ratio
    console.print(
        f"[bold]{format_count(best.parameters)} parameters on {format_count(best.tokens)} tokens[/]: as good as the "
        f"compute-optimal model (loss {best.loss:.3f}), and {saved:.0%} cheaper with {format_count(tokens)} tokens of inference",
        highlight=False,
    )
    table = _table("", "parameters", "tokens", "tokens a parameter", "training", "inference", "together")
    table.add_row("compute-optimal", *_life(answer.reference))
    table.add_row("cheapest life", *_life(answer.best))
    console.print(table)
    console.print(f"whole cost × {answer.ratio:.3f}; inference in FLOP of training", highlight=False)
    _lines("Rests on", [f"{law.name}: {law.source}", "6 N D for training, 2 N a token of inference"], console)


def _life(life: Life) -> list[str]:
    model: Allocation = life.model
    return [
        format_count(model.parameters), format_count(model.tokens), f"{model.tokens_per_parameter:.3g}",
        format_flops(life.training), format_flops(life.inference), format_flops(life.total),
    ]  # fmt: skip


def print_scores(answer: BenchmarkAnswer, console: Console) -> None:
    """A benchmark's two steps and the score they foresee."""
    law, score = answer.law, answer.score
    if score is not None:
        console.print(
            f"[bold]{format_flops(score.flops)}: accuracy {score.accuracy:.1%}[/] ({score.low:.1%} to {score.high:.1%}), "
            f"NLL {score.nll:.4g}",
            highlight=False,
        )
    console.print(f"1. NLL = {law.factor:.4g} C^-{law.power:.4g}, from {answer.ladder} runs", highlight=False)
    console.print(
        f"2. accuracy = {law.chance:g} + {law.top - law.chance:g} / (1 + exp({law.steepness:.4g} (NLL - {law.middle:.4g}))), "
        f"from {answer.scored} models",
        highlight=False,
    )
    _lines("Mind", score.notes if score else (), console)


def _formula(law: ParametricLaw) -> str:
    return f"L(N, D) = {law.E:.4g} + {law.A:.4g} / N^{law.alpha:.4g} + {law.B:.4g} / D^{law.beta:.4g}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def _lines(title: str, lines: tuple[str, ...] | list[str], console: Console) -> None:
    if lines:
        console.print(f"[bold]{title}[/]")
        for line in lines:
            console.print(f"  {escape(line)}", highlight=False)
