"""The stage ``ladder``: a scaling law from a ladder of trained models, and what the next rungs will come to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from arriero.artifacts import Artifact
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile
from arriero.cost.scaling.fit import FEWEST
from arriero.cost.units import format_count
from arriero.errors import ArrieroError
from arriero.stage import (
    Context,
    Input,
    Inputs,
    LawSpec,
    ModelSpec,
    Outcome,
    Plan,
    RungSpec,
    Specs,
    Stage,
    StageSettings,
    register,
)

_DELTA = 0.01
"""Wider than the paper's: a dozen runs cannot spare what counting small deviations by their size alone throws away."""
_START_SECONDS, _DRAW_SECONDS = 0.5, 1e-3
"""Reading the manifests and fitting, and each bootstrap draw; measured on one core."""


class Rung(BaseModel):
    """A model to predict."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: float = Field(gt=0, description="its size, counted as the ladder's are (see embeddings)")
    tokens: float = Field(gt=0, description="tokens that it will be trained on, repeats counted")


class LadderSettings(StageSettings):
    """How the law is fitted, and what it predicts."""

    predict: dict[str, Rung] = Field(
        default={},
        description="models that are not trained yet, by the name of the stage that will train them: "
        "{next: {parameters: 2.4e6, tokens: 3e6}}",
    )
    embeddings: bool = Field(
        default=True,
        description="count embeddings as parameters, as Chinchilla does; false leaves them out, as Kaplan did",
    )
    delta: float = Field(
        default=_DELTA,
        gt=0,
        description="of the Huber loss: relative deviations above it count by their size alone (the paper: 1e-3, for hundreds of runs)",
    )
    bootstrap_samples: int = Field(
        default=1000, ge=100, le=100_000, description="laws drawn for the intervals"
    )
    confidence: float = Field(default=0.8, gt=0, lt=1, description="confidence of the intervals")
    far: bool = Field(
        default=False,
        description="predict more than two decades of FLOP beyond the largest run; the result then says so",
    )


@register
class Ladder(Stage[LadderSettings]):
    """Fit L(N, D) = E + A/N^alpha + B/D^beta to models that were trained on the same tokens, and predict further ones.

    Wanted are at least six runs over at least three sizes and three token counts, each with its learning rate taken to the end.
    The loss is the held-out one, in nats a token. Put the stage before the one that trains the predicted
    model: what it says is then an artifact that was there first, and the stage reconcile holds the two together.
    """

    kind = "ladder"
    version = 1
    makes = "law"
    inputs = {
        "models": Input("model", "the trained models of the ladder", many=True),
        "tokens": Input(
            "tokens", "what they were trained on, to tell how often it was repeated", optional=True
        ),
    }
    help = "fit a scaling law to a ladder of trained models and predict the next"
    Settings = LadderSettings

    def plan(self, settings: LadderSettings, specs: Specs, device: DeviceProfile) -> Plan:
        models: list[ModelSpec] = specs["models"]
        sizes = sorted({model.n_parameters for model in models})
        _check_size(len(models), len(sizes))
        rungs = {
            name: RungSpec(parameters=rung.parameters, tokens=rung.tokens)
            for name, rung in settings.predict.items()
        }
        spec = LawSpec(runs=len(models), embeddings=settings.embeddings, predictions=rungs)
        seconds = _START_SECONDS + _DRAW_SECONDS * settings.bootstrap_samples
        notes = [
            f"{len(models)} runs of {format_count(sizes[0])} to {format_count(sizes[-1])} parameters",
            *(
                f"predicts {name}: {format_count(rung.parameters)} parameters on {format_count(rung.tokens)} tokens"
                for name, rung in rungs.items()
            ),
        ]
        return Plan(spec, small_estimate(seconds, device), notes)

    def run(self, settings: LadderSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.evaluation.ladder_files import write_law
        from arriero.evaluation.ladder_fit import fit_ladder

        models: list[Artifact] = inputs["models"]
        found = fit_ladder(settings, models, inputs.get("tokens"), context.seed)
        write_law(found, context.folder)
        for line in found.predictions:
            context.say(
                f"{line.name}: {line.loss:.3f} nats a token ({line.low:.3f}–{line.high:.3f}) is what "
                f"{format_count(line.parameters)} parameters on {format_count(line.tokens)} tokens should come to"
            )
        rungs = {
            line.name: RungSpec(parameters=line.parameters, tokens=line.tokens) for line in found.predictions
        }
        spec = LawSpec(runs=len(found.runs), embeddings=found.embeddings, predictions=rungs)
        facts = {
            "law": {key: getattr(found, key) for key in ("E", "A", "B", "alpha", "beta", "scatter")},
            "predictions": {
                line.name: {"loss": line.loss, "low": line.low, "high": line.high}
                for line in found.predictions
            },
            "notes": [
                *found.notes,
                *(f"{line.name}: {note}" for line in found.predictions for note in line.notes),
            ],
        }
        return Outcome(spec, facts)


def small_estimate(seconds: float, device: DeviceProfile) -> Estimate:
    """Of a stage that only works on a table of figures."""
    return Estimate(
        seconds=Quantity.band(seconds, 1.0, "s", "modelled", "reading, fitting and drawing, measured on one core"),
        peak_memory=Quantity.band(float(device.process_bytes), 0.3, "B", "modelled", "the process itself"),
        flops=Quantity.exact(0.0, "FLOP", "modelled", "no matrix products worth the name"),
    )  # fmt: skip


def _check_size(runs: int, sizes: int) -> None:
    if runs < FEWEST or sizes < 3:
        raise ArrieroError(
            f"a ladder of {runs} models of {sizes} sizes cannot tell a scaling law: give at least {FEWEST} runs over at "
            "least three sizes and three token counts"
        )
