"""The stage ``compare``: families of models on one corpus, at equal time, at equal tokens, and mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from arriero.artifacts import Artifact
from arriero.cost.device import DeviceProfile
from arriero.stage import (
    ComparisonSpec,
    Context,
    Input,
    Inputs,
    Outcome,
    Plan,
    Specs,
    Stage,
    StageSettings,
    register,
)

if TYPE_CHECKING:
    from arriero.evaluation.compare_result import Comparison


class CompareSettings(StageSettings):
    """What the families are compared on."""

    split: str = Field(default="validation", description="split of the tokens that is scored")
    max_documents: int = Field(
        default=400,
        ge=0,
        description="documents scored, spread over the split, half of them to tune on; 0 = all",
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        description="tokens scored by each window of a long document; by default half the context",
    )
    years: dict[str, int] = Field(
        default={},
        description="year of a family's paper, by the family's name, where Arriero's is not wanted",
    )
    bootstrap_samples: int = Field(
        default=2000, ge=100, le=1_000_000, description="draws of documents for each interval"
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="confidence of the intervals")


@register
class Compare(Stage[CompareSettings]):
    """Compare families of language models that were trained on the same tokens, several seeds of each.

    Models that differ in their seed alone count as one family. Bits per byte of whole held-out documents: of the
    finished models (equal time, when they were trained for equal CPU seconds), at the token count that all
    reached, and mixed with the best n-gram model. Every figure has an interval over seeds and one over documents;
    one family is called better than another only where both say so.
    """

    kind = "compare"
    version = 1
    makes = "comparison"
    inputs = {
        "models": Input("model", "the models to compare, all trained on the tokens", many=True),
        "tokens": Input("tokens", "what they were trained on, with a held-out split"),
    }
    help = "compare families of models at equal time and at equal tokens"
    Settings = CompareSettings

    def plan(self, settings: CompareSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.evaluation.compare_plan import plan_comparison

        return plan_comparison(settings, specs, device)

    def run(self, settings: CompareSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.evaluation.compare_families import Comparer
        from arriero.evaluation.compare_table import write_comparison

        tokens: Artifact = inputs["tokens"]
        found = Comparer(settings, tokens, inputs["models"], context).run()
        write_comparison(found, context.folder)
        for verdict in found.verdicts:
            if verdict.to == found.ngram:  # the others are in comparison.md and the report
                context.say(verdict.sentence)
        spec = ComparisonSpec(families=len(found.families), runs=sum(len(f.runs) for f in found.families))
        return Outcome(spec, _facts(found))


def _facts(found: Comparison) -> dict[str, Any]:
    """The middle figures of every family, and the verdicts."""
    from arriero.evaluation.compare_result import VIEWS

    views = {
        view: {
            f.name: round(figure.value, 6) for f in found.families if (figure := f.figure(view)) is not None
        }
        for view in VIEWS
    }
    return {"bits_per_byte": views, "verdicts": [verdict.sentence for verdict in found.verdicts]}
