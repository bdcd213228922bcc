"""`scores.json`: what an evaluation found, for programs and for the report."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from arriero.evaluation.bootstrap import Interval

SCORES_FILE, SAMPLES_FILE, TABLE_FILE = "scores.json", "samples.json", "scores.md"
Relation = Literal["baseline", "parent", "reference"]
"""Whose figure a difference is taken to: the chosen baseline model, the model this one was made from, or a
reference that no stage made (n-gram, unigram)."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelLine(_Part):
    """One column of the comparison."""

    name: str
    kind: str = Field(description="the stage that made it, or 'reference'")
    format: str = ""
    n_parameters: int = Field(description="parameters; for an n-gram model, stored n-grams")
    weight_bytes: int | None = Field(default=None, description="bytes of the weight files on disk")
    parent: str | None = Field(default=None, description="the compared model that this one was made from")


class Score(_Part):
    """One figure with its interval. ``low`` and ``high`` are None where one item alone gives no interval."""

    model: str
    value: float
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, model: str, found: Interval) -> Score:
        return cls(model=model, value=found.value, low=found.low, high=found.high, n=found.n)


class Difference(_Part):
    """``model`` minus ``to``, over the same items drawn together."""

    model: str
    to: str
    relation: Relation
    value: float
    low: float | None
    high: float | None
    better: bool | None = Field(description="True better, False worse, None: inside the noise")
    verdict: str


class Measure(_Part):
    """One measure of all models on the same held-out items."""

    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"]
    items: str = Field(description="what was drawn for the intervals: documents, conversations, pairs")
    n: int
    of: int = Field(description="held-out items there were; those too long for a context are left out")
    scores: list[Score]
    differences: list[Difference]


class Scores(_Part):
    """All measures."""

    format: Literal["arriero.scores/1"] = "arriero.scores/1"
    confidence: float
    bootstrap_samples: int
    baseline: str
    models: list[ModelLine]
    measures: list[Measure]
    notes: list[str] = []


class Sample(_Part):
    """One model's greedy answer to one prompt."""

    model: str
    text: str
    finish: str = Field(description="stop: the model ended it; length: the limit did")
    tokens: int


class SampleSet(_Part):
    """The answers of all models to one prompt."""

    prompt: str
    answers: list[Sample]


class Samples(_Part):
    """`samples.json`."""

    format: Literal["arriero.samples/1"] = "arriero.samples/1"
    max_tokens: int
    prompts: list[SampleSet]


def judge(better: Literal["lower", "higher"], found: Interval) -> bool | None:
    """Is a difference an improvement? None unless its whole interval lies on one side of 0."""
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return None
    return (found.value > 0) == (better == "higher")


def verdict(title: str, model: str, to: str, unit: str, judged: bool | None, found: Interval) -> str:
    """The difference in words; never calls a model better inside the noise."""
    figure = f"{signed(found.value, unit)}"
    if found.low is None or found.high is None:
        return f"{model} and {to} cannot be told apart on {title}: one item gives no interval ({figure})"
    band = f"{figure}, interval {signed(found.low, unit)} to {signed(found.high, unit)}"
    if judged is None:
        return f"{model} cannot be told from {to} on {title} ({band})"
    return f"{model} is {'better' if judged else 'worse'} than {to} on {title} ({band})"


def plain(value: float, unit: str) -> str:
    """A figure of a measure as text: shares in percent, the rest with three decimals."""
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.3f}"


def signed(value: float, unit: str) -> str:
    """A difference as text, always with its sign; shares in percentage points."""
    text = (
        f"{100 * value:+.1f} points"
        if unit == "share"
        else f"{value:+.4f}"
        if abs(value) < 0.01
        else f"{value:+.3f}"
    )
    return text.replace("-", "\N{MINUS SIGN}")
