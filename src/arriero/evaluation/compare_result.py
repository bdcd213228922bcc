"""`comparison.json`: families of models side by side, for programs and for the report."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

COMPARISON_FILE, CSV_FILE, RUNS_FILE = "comparison.json", "comparison.csv", "runs.csv"
TABLE_FILE = "comparison.md"
View = Literal["equal_time", "equal_tokens", "mixture"]
VIEWS: dict[View, str] = {
    "equal_time": "at equal time",
    "equal_tokens": "at equal tokens",
    "mixture": "mixed with the n-gram",
}
Ends = tuple[float, float]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Part):
    """Bits per byte, or a difference of them, with the two kinds of noise apart."""

    value: float
    seeds: Ends | None = Field(description="t-interval of the mean over seeds; None with fewer than two")
    documents: Ends | None = Field(
        description="bootstrap interval over the scored documents; None where it was not worked out"
    )

    @property
    def widest(self) -> Ends | None:
        """Both intervals together: the ends that enclose each of them."""
        known = [ends for ends in (self.seeds, self.documents) if ends is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if known else None


class CurvePoint(_Part):
    """A held-out evaluation during training."""

    tokens: float
    cpu_seconds: float
    bits_per_byte: float = Field(
        description="on training's own held-out windows, not on whole documents as the final figures"
    )


class Run(_Part):
    """One trained model: one seed of one family."""

    name: str
    seed: int
    bits_per_byte: float
    tokens: float | None = Field(description="training tokens that it saw, repeats counted")
    cpu_seconds: float = Field(description="CPU seconds of training, without what the stage does around it")
    stage_cpu_seconds: float = Field(description="CPU seconds of the whole stage, as metered")
    equal_tokens: float | None = Field(
        default=None, description="bits per byte at the token count all reached"
    )
    mixture: float | None = Field(default=None, description="bits per byte, mixed with the best n-gram")
    mixture_weight: float | None = Field(default=None, description="this model's share in that mixture")
    curve: list[CurvePoint] = []


class Family(_Part):
    """The runs that differ in their seed alone."""

    name: str
    family: str
    year: int | None = Field(description="of the paper that made it a language model; None where not known")
    paper: str = ""
    n_parameters: int = Field(description="parameters; for an n-gram model, stored n-grams")
    cpu_seconds: float = Field(description="mean over the runs")
    tokens: float | None = Field(description="mean over the runs")
    equal_time: Figure
    equal_tokens: Figure | None = None
    mixture: Figure | None = None
    runs: list[Run]

    def figure(self, view: View) -> Figure | None:
        found: Figure | None = getattr(self, view)
        return found


class Verdict(_Part):
    """``model`` minus ``to``, in bits per byte; ``better`` only where every interval says so."""

    view: View
    model: str
    to: str
    difference: Figure
    better: bool | None = Field(description="True better, False worse, None: inside the noise")
    sentence: str


class Comparison(_Part):
    """The whole comparison. All final figures are of the same documents."""

    format: Literal["arriero.comparison/1"] = "arriero.comparison/1"
    confidence: float
    bootstrap_samples: int
    split: str
    documents: int
    bytes: int
    tuning_documents: int = Field(description="documents that the mixtures' weights were fitted on")
    tokens_compared: int | None = Field(description="training tokens of the view at equal tokens")
    ngram: str | None = Field(description="the n-gram model that the others are mixed with")
    families: list[Family]
    verdicts: list[Verdict]
    notes: list[str] = []
