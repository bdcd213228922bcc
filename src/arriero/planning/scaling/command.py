"""The commands ``arriero scaling ...``: options, and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from arriero.errors import ArrieroError
from arriero.planning.estimate.command import Count

_JSON = click.option("--json", "as_json", is_flag=True, help="Print data instead of text.")
_FLOPS = click.option(
    "--budget-flops", metavar="FLOP", type=float, help="Training compute, e.g. 1e21 (6 N D)."
)
_LAW = click.option(
    "--law", metavar="NAME|FILE", default="chinchilla", show_default=True,
    help="chinchilla (corrected fit), chinchilla-printed, or your own: a law.json or the folder of a ladder.",
)  # fmt: skip
_CONFIDENCE = click.option(
    "--confidence", type=float, default=0.8, show_default=True, help="Confidence of the intervals."
)
_SEED = click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
_FAR = click.option(
    "--far", is_flag=True, help="Predict more than two decades of FLOP beyond the largest run, and say so."
)
_RUNS = click.argument("runs", metavar="RUNS.CSV", type=click.Path(path_type=Path))


@click.group()
def scaling() -> None:
    """Scaling laws: how large a model, on how many tokens, and what loss that comes to.

    The loss of a language model falls with its parameters N and its training tokens D as L = E + A/N^alpha + B/D^beta, and
    training takes 6 N D FLOP. So a budget has a best split (about 20 tokens a parameter), a model that will answer much
    should be smaller and trained for longer, and a few small runs tell what a larger one will come to.

    \b
    arriero scaling optimal --budget-flops 1e21               the best split of a budget
    arriero scaling optimal --money 100 --hardware h100       the same, told in money
    arriero scaling overtrain --parameters 7B --inference-tokens 1T
    arriero scaling fit runs.csv --predict 3e6:4e6            your own law, and a model not trained yet
    arriero scaling downstream scores.csv --chance 0.25       from compute to a benchmark's score
    """


@scaling.command()
@_FLOPS
@click.option("--money", metavar="USD", type=float, help="Budget in money, with --hardware.")
@click.option("--hardware", metavar="NAME", help="Device that --money is spent on, e.g. h100.")
@click.option(
    "--utilisation", type=float, help="Share of the peak that training reaches.  [default: 0.4, with a band]"
)
@click.option(
    "--price", metavar="USD", type=float, help="Price of a device and hour.  [default: the price table's]"
)
@click.option(
    "--dtype", type=click.Choice(["bf16", "fp16", "fp8", "tf32", "fp32"]), default="bf16", show_default=True,
    help="Arithmetic whose peak is meant.",
)  # fmt: skip
@_LAW
@_JSON
def optimal(
    budget_flops: float | None, money: float | None, hardware: str | None, utilisation: float | None,
    price: float | None, dtype: str, law: str, as_json: bool,
) -> None:  # fmt: skip
    """The best model and number of tokens for a compute budget.

    The optimum is where a FLOP spent on size and one spent on data lower the loss alike:
    N = G (C/6)^(beta/(alpha+beta)), D = C / 6 N. The default is Chinchilla's law in the corrected fit of Besiroglu et al.; the
    one printed in the paper, Kaplan's and Llama 3's are shown beside it. Give FLOP, or money and a device.

    \b
    arriero scaling optimal --budget-flops 5.76e23
    arriero scaling optimal --money 100 --hardware h100 --utilisation 0.45
    """
    from arriero.planning.scaling.answers import law_of, optimum
    from arriero.planning.scaling.budget import of_flops, of_money
    from arriero.planning.scaling.show import print_optimum

    if (budget_flops is None) == (money is None):
        raise ArrieroError("give the budget once: --budget-flops, or --money with --hardware")
    if money is None and any(given is not None for given in (hardware, utilisation, price)):
        raise ArrieroError("--hardware, --utilisation and --price turn --money into FLOP: give --money")
    if money is not None and hardware is None:
        raise ArrieroError("--money needs --hardware, the device that it is spent on, e.g. h100")
    budget = (
        of_flops(budget_flops) if budget_flops is not None
        else of_money(money or 0.0, hardware or "", utilisation=utilisation, price=price, dtype=dtype)
    )  # fmt: skip
    _answer(optimum(budget, law_of(law)), as_json, print_optimum)


@scaling.command()
@_LAW
@click.option(
    "--inference-tokens", metavar="TOKENS", type=Count(), required=True,
    help="Tokens that the model will read and write in its life.",
)  # fmt: skip
@click.option(
    "--parameters", metavar="N", type=Count(), help="As good as the compute-optimal model of this size."
)
@_FLOPS
@click.option("--loss", metavar="NATS", type=float, help="As good as this loss, nats a token.")
@click.option(
    "--weight", type=float, help="What a FLOP of inference costs in FLOP of training.  [default: 1]"
)
@click.option("--training-utilisation", type=float, help="Share of the peak in training, e.g. 0.4.")
@click.option("--inference-utilisation", type=float, help="The same in use; decoding reaches 0.01 to 0.2.")
@_JSON
def overtrain(
    law: str, inference_tokens: float, parameters: float | None, budget_flops: float | None, loss: float | None,
    weight: float | None, training_utilisation: float | None, inference_utilisation: float | None, as_json: bool,
) -> None:  # fmt: skip
    """The cheapest model over training and use together, at equal loss (Sardana et al. 2023).

    A smaller model trained on more tokens answers as well for less. The command looks for the size at which
    6 N D + w 2 N T is lowest, with D the tokens that bring N parameters to the same loss and T those of inference. A FLOP of
    inference costs more than one of training, because decoding uses little of the device: tell it by --weight or by
    both utilisations.

    \b
    arriero scaling overtrain --parameters 7B --inference-tokens 1T
    arriero scaling overtrain --budget-flops 1e22 --inference-tokens 1e13 \\
        --training-utilisation 0.4 --inference-utilisation 0.1
    """
    from arriero.cost.scaling.inference_aware import inference_weight
    from arriero.planning.scaling.answers import law_of, overtraining
    from arriero.planning.scaling.show import print_overtraining

    shares = (training_utilisation, inference_utilisation)
    if (shares[0] is None) != (shares[1] is None) or (weight is not None and shares[0] is not None):
        raise ArrieroError("tell the price of inference by --weight, or by both utilisations")
    if shares[0] is not None and shares[1] is not None:
        weight = inference_weight(shares[0], shares[1])
    chosen = law_of(law)
    found = overtraining(
        chosen, inference_tokens, parameters=parameters, flops=budget_flops, loss=loss,
        weight=1.0 if weight is None else weight,
    )  # fmt: skip
    _answer(found, as_json, lambda one, console: print_overtraining(one, chosen, inference_tokens, console))


@scaling.command()
@_RUNS
@click.option(
    "--predict", "wanted", metavar="N:D", multiple=True,
    help="A model not trained yet: its parameters and tokens, e.g. 3M:4e6 (repeatable).",
)  # fmt: skip
@_FLOPS
@_CONFIDENCE
@click.option("--draws", type=int, default=1000, show_default=True, help="Laws that the bootstrap draws.")
@_SEED
@click.option(
    "--delta", type=float, default=1e-3, show_default=True,
    help="Of the Huber loss: relative deviations above it count by their size alone.",
)  # fmt: skip
@_FAR
@_JSON
def fit(
    runs: Path, wanted: tuple[str, ...], budget_flops: float | None, confidence: float, draws: int, seed: int,
    delta: float, far: bool, as_json: bool,
) -> None:  # fmt: skip
    """Fit a law to your own runs, with bootstrap intervals, and predict models not trained yet.

    RUNS.CSV has a header with parameters, tokens (or flops) and loss, and a line for each finished run: at least six, over three
    sizes and three token counts, each with its learning rate taken to its end, all scored on the same held-out text.
    The fit is approach 3 of Hoffmann et al. 2022: a Huber loss in ln L, from a grid of starts. With --budget-flops
    the best model of that budget under your law is predicted too.

    \b
    arriero scaling fit runs.csv
    arriero scaling fit runs.csv --predict 3e6:4e6 --budget-flops 1e15
    """
    from arriero.planning.scaling.answers import fit_runs
    from arriero.planning.scaling.show import print_fit

    found = fit_runs(
        runs, models=[_model(text) for text in wanted], flops=budget_flops, confidence=confidence, draws=draws,
        seed=seed, delta=delta, far=far,
    )  # fmt: skip
    _answer(found, as_json, print_fit)


@scaling.command()
@_RUNS
@_FLOPS
@click.option(
    "--chance",
    type=float,
    default=0.0,
    show_default=True,
    help="Accuracy of guessing: 0.25 for four choices.",
)
@click.option("--top", type=float, default=1.0, show_default=True, help="Accuracy of a perfect model.")
@_CONFIDENCE
@click.option("--draws", type=int, default=200, show_default=True, help="Laws that the bootstrap draws.")
@_SEED
@_FAR
@_JSON
def downstream(
    runs: Path, budget_flops: float | None, chance: float, top: float, confidence: float, draws: int, seed: int,
    far: bool, as_json: bool,
) -> None:  # fmt: skip
    """From compute to a benchmark's accuracy in two steps, as Llama 3 foresaw its scores.

    Small models guess, so their accuracy says nothing; their likelihood of the right answer already moves. Step 1 is a power
    law from FLOP to that NLL, over compute-optimal runs; step 2 a sigmoid from NLL to accuracy, over these and any other models.
    RUNS.CSV has columns flops, nll and accuracy; leave flops empty for models that serve the second step alone, and
    accuracy for runs that serve the first.

    \b
    arriero scaling downstream scores.csv --chance 0.25 --budget-flops 1e22
    """
    from arriero.planning.scaling.answers import fit_scores
    from arriero.planning.scaling.show import print_scores

    found = fit_scores(
        runs,
        flops=budget_flops,
        chance=chance,
        top=top,
        confidence=confidence,
        draws=draws,
        seed=seed,
        far=far,
    )
    _answer(found, as_json, print_scores)


def _model(text: str) -> tuple[float, float]:
    from arriero.planning.estimate.layout_text import parse_count

    parts = text.split(":")
    if len(parts) != 2:
        raise ArrieroError(f"--predict {text}: should look like PARAMETERS:TOKENS, e.g. 3M:4e6")
    return parse_count(parts[0], "--predict"), parse_count(parts[1], "--predict")


def _answer(found: Any, as_json: bool, show: Callable[[Any, Console], None]) -> None:
    from arriero.planning.scaling.answers import as_data

    if as_json:
        click.echo(json.dumps(as_data(found), indent=2))
    else:
        terminal = sys.stdout.isatty()
        show(found, Console(soft_wrap=not terminal, width=None if terminal else 160))
