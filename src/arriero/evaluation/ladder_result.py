"""`law.json` and `reconciliation.json`: a fitted scaling law with its predictions, and what became of them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from arriero.cost.scaling.bootstrap import Prediction
from arriero.cost.scaling.fit import Fit

LAW_FILE, RUNS_FILE, RECONCILIATION_FILE = "law.json", "runs.csv", "reconciliation.json"
LAW_PLOT, RECONCILIATION_PLOT = "law.svg", "reconciliation.svg"
Ends = tuple[float, float]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunLine(_Part):
    """One run of the ladder."""

    name: str
    parameters: float
    tokens: float
    loss: float = Field(description="held-out nats a token, measured")
    fitted: float = Field(description="the law's loss for it")


class PredictionLine(_Part):
    """The loss of a model that was not trained yet."""

    name: str
    parameters: float
    tokens: float
    loss: float
    low: float = Field(description="interval of one run's loss")
    high: float
    law_low: float = Field(description="interval of the law alone, without a run's own noise")
    law_high: float
    decades: float = Field(description="powers of ten of FLOP beyond the largest fitted run")
    notes: list[str] = []


class LawResult(_Part):
    """What the stage ``ladder`` found."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    intervals: dict[str, Ends]
    confidence: float
    scatter: float = Field(description="standard deviation of a run about the law, as a share of the loss")
    embeddings: bool = Field(description="whether parameters count embeddings")
    draws: int
    method: str
    runs: list[RunLine]
    predictions: list[PredictionLine]
    notes: list[str] = []


class ReconciledLine(_Part):
    """A prediction beside what the run came to."""

    prediction: PredictionLine
    parameters: float
    tokens: float
    measured: float
    error: float = Field(description="measured over predicted loss, less one")
    within: bool = Field(description="whether the measured loss lies inside the interval")
    made_before: bool = Field(description="whether the prediction was finished before the run began")
    predicted_at: str
    run_started: str

    @property
    def sentence(self) -> str:
        """The outcome in a line."""
        found = self.prediction
        where = "inside" if self.within else "OUTSIDE"
        when = (
            "" if self.made_before else "; made after the run had begun, so it is hindsight and no prediction"
        )
        return (
            f"{found.name}: predicted {found.loss:.3f} ({found.low:.3f}–{found.high:.3f}), measured {self.measured:.3f}: "
            f"{self.error:+.2%}, {where} the interval{when}"
        )


class Reconciliation(_Part):
    """What the stage ``reconcile`` found."""

    confidence: float
    lines: list[ReconciledLine]


def law_result(
    found: Fit, intervals: dict[str, Ends], predictions: dict[str, Prediction], *,
    confidence: float, embeddings: bool, draws: int, method: str, notes: list[str],
) -> LawResult:  # fmt: skip
    """The result as it is written."""
    law, runs = found.law, found.runs
    fitted = law.loss(runs.parameters, runs.tokens)
    return LawResult(
        E=law.E, A=law.A, B=law.B, alpha=law.alpha, beta=law.beta, intervals=intervals, confidence=confidence,
        scatter=found.scatter, embeddings=embeddings, draws=draws, method=method, notes=notes,
        runs=[
            RunLine(
                name=name, parameters=float(runs.parameters[i]), tokens=float(runs.tokens[i]), loss=float(runs.losses[i]),
                fitted=float(fitted[i]),
            )
            for i, name in enumerate(runs.names)
        ],
        predictions=[_line(name, made) for name, made in predictions.items()],
    )  # fmt: skip


def _line(name: str, made: Prediction) -> PredictionLine:
    model = made.model
    return PredictionLine(
        name=name, parameters=model.parameters, tokens=model.tokens, loss=model.loss or 0.0, low=made.low, high=made.high,
        law_low=made.law_low, law_high=made.law_high, decades=made.decades, notes=list(made.notes),
    )  # fmt: skip
