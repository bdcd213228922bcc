"""The stage ``reconcile``: what a ladder predicted beside what the models have come to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from arriero.artifacts import Artifact
from arriero.cost.device import DeviceProfile
from arriero.errors import ArrieroError, did_you_mean
from arriero.stage import (
    Context,
    Input,
    Inputs,
    LawSpec,
    ModelSpec,
    Outcome,
    Plan,
    ReconciliationSpec,
    RungSpec,
    Specs,
    Stage,
    StageSettings,
    register,
)

if TYPE_CHECKING:
    from arriero.evaluation.ladder_result import LawResult, ReconciledLine

_SAME = 0.02
"""Parameters and tokens of a run may differ from the predicted ones by this share: whole steps, rounded figures."""
_SECONDS = 0.5


class ReconcileSettings(StageSettings):
    """Nothing to set: the predictions are the law's, the losses the models'."""


@register
class Reconcile(Stage[ReconcileSettings]):
    """Hold a ladder's predictions against the models that were trained after it.

    Each model is matched with the prediction of its name and must have the predicted size and tokens. The result says
    how far off the prediction was, whether the loss lies inside the interval, and whether the prediction was finished before
    the run began: if not, it was hindsight.
    """

    kind = "reconcile"
    version = 1
    makes = "reconciliation"
    inputs = {
        "law": Input("law", "what the stage ladder predicted"),
        "models": Input("model", "the predicted models, trained since", many=True, named=True),
    }
    help = "hold a ladder's predictions against the models trained since"
    Settings = ReconcileSettings

    def plan(self, settings: ReconcileSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.evaluation.ladder import small_estimate

        law: LawSpec = specs["law"]
        models: Mapping[str, ModelSpec] = specs["models"]
        for name, model in models.items():
            rung = predicted(name, law.predictions)
            if law.embeddings:
                check_same(name, "parameters", rung.parameters, float(model.n_parameters))
        return Plan(ReconciliationSpec(predictions=len(models)), small_estimate(_SECONDS, device))

    def run(self, settings: ReconcileSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.evaluation.ladder_files import read_law, write_reconciliation
        from arriero.evaluation.ladder_result import Reconciliation

        law: Artifact = inputs["law"]
        models: Mapping[str, Artifact] = inputs["models"]
        made = read_law(law)
        found = Reconciliation(
            confidence=made.confidence,
            lines=[reconciled(made, law, name, model) for name, model in models.items()],
        )
        write_reconciliation(made, found, context.folder)
        for line in found.lines:
            context.say(line.sentence)
        return Outcome(
            ReconciliationSpec(predictions=len(found.lines)),
            {
                "reconciled": [
                    {
                        "name": line.prediction.name, "predicted": line.prediction.loss, "low": line.prediction.low,
                        "high": line.prediction.high, "measured": line.measured, "error": line.error,
                        "within": line.within, "made_before": line.made_before,
                    }
                    for line in found.lines
                ],
                "sentences": [line.sentence for line in found.lines],
            },
        )  # fmt: skip


def predicted(name: str, predictions: Mapping[str, RungSpec]) -> RungSpec:
    """The prediction for that model.

    Raises:
        ArrieroError: there is none.
    """
    if name not in predictions:
        hint = (
            did_you_mean(name, predictions) if predictions else "; the ladder predicts nothing: set predict"
        )
        raise ArrieroError(f"nothing was predicted of model '{name}'{hint}")
    return predictions[name]


def check_same(name: str, what: str, wanted: float, found: float) -> None:
    """Refuse a model that is not the predicted one.

    Raises:
        ArrieroError: its size or tokens differ by more than rounding.
    """
    if abs(found / wanted - 1) > _SAME:
        raise ArrieroError(
            f"model '{name}' has {found:,.0f} {what}, but the prediction was made for {wanted:,.0f}: a prediction only "
            "counts for the model it was made for"
        )


def reconciled(made: LawResult, law: Artifact, name: str, model: Artifact) -> ReconciledLine:
    """One prediction beside its run.

    Raises:
        ArrieroError: nothing was predicted of the model, it is another one, or it was trained on another text.
    """
    from arriero.evaluation.ladder_fit import run_of
    from arriero.evaluation.ladder_result import ReconciledLine

    lines = {line.name: line for line in made.predictions}
    rung = predicted(
        name, {key: RungSpec(parameters=x.parameters, tokens=x.tokens) for key, x in lines.items()}
    )
    parameters, tokens, loss = run_of(model, made.embeddings)
    check_same(name, "parameters", rung.parameters, parameters)
    check_same(name, "training tokens", rung.tokens, tokens)
    line = lines[name]
    return ReconciledLine(
        prediction=line, parameters=parameters, tokens=tokens, measured=loss, error=loss / line.loss - 1,
        within=line.low <= loss <= line.high, made_before=_before(law.manifest.ended, model.manifest.started),
        predicted_at=law.manifest.ended, run_started=model.manifest.started,
    )  # fmt: skip


def _before(first: str, second: str) -> bool:
    """Whether one moment is not after the other; an unreadable one proves nothing."""
    try:
        return datetime.fromisoformat(first) <= datetime.fromisoformat(second)
    except (TypeError, ValueError):
        return False
