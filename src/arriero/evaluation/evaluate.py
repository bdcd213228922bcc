"""The stage ``evaluate``: models side by side on held-out data, every figure with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arriero.artifacts import Artifact
from arriero.cost.device import DeviceProfile, Rate
from arriero.errors import ArrieroError, did_you_mean
from arriero.evaluation.settings import EvaluateSettings
from arriero.stage import Context, Input, Inputs, Outcome, Plan, ScoresSpec, Specs, Stage, register

if TYPE_CHECKING:
    from arriero.evaluation.items import Contestant, Items
    from arriero.evaluation.scorer import Results
    from arriero.evaluation.scores import ModelLine, Samples, Scores


@register
class Evaluate(Stage[EvaluateSettings]):
    """Compare models on the same held-out items, with bootstrap intervals and paired differences.

    Bits per byte on held-out text, beside n-gram models of the training text; nats a token on held-out
    conversations; the share of held-out preference pairs that a model orders as people did. A model is called
    better than another only where the whole interval of their difference says so. One model is in memory at a time.
    """

    kind = "evaluate"
    version = 1
    makes = "scores"
    inputs = {
        "models": Input("model", "the models to compare", many=True),
        "tokens": Input("tokens", "held-out text to score, and training text for the n-gram models"),
    }
    help = "compare models on held-out data, with intervals"
    Settings = EvaluateSettings

    def plan(self, settings: EvaluateSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.evaluation.plan import plan_evaluation

        return plan_evaluation(settings, specs, device)

    def run(self, settings: EvaluateSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.evaluation.heldout import refuse_other_splits
        from arriero.evaluation.items import contestants, load_items
        from arriero.evaluation.scorer import Scorer

        tokens: Artifact = inputs["tokens"]
        models = contestants(inputs["models"])
        refuse_other_splits(inputs["models"], settings)
        baseline = _baseline(settings, [model.name for model in models])
        items = load_items(settings, tokens, models)
        results = Scorer(settings, tokens, items, models, context).run()
        scores = _scores(settings, models, items, results, baseline, context.seed)
        _write(scores, _samples(settings, results), context)
        for difference in (d for measure in scores.measures for d in measure.differences):
            of_baseline = difference.relation == "reference" and difference.model == baseline
            if (
                difference.relation == "parent" or of_baseline
            ):  # the whole table is in scores.md and the report
                context.say(difference.verdict)
        spec = ScoresSpec(models=[line.name for line in scores.models], measures=list(results.tables))
        return Outcome(spec, _facts(scores))

    def probe(self) -> dict[str, Rate]:
        from arriero.evaluation.forecast import PASS_RATE, measure_passes
        from arriero.evaluation.references import measure_ngram

        return {PASS_RATE: measure_passes(), **measure_ngram()}


def _baseline(settings: EvaluateSettings, names: list[str]) -> str:
    if settings.baseline is None:
        return names[0]
    if settings.baseline not in names:
        raise ArrieroError(
            f"baseline '{settings.baseline}' is not compared{did_you_mean(settings.baseline, names)}"
        )
    return settings.baseline


def _model_lines(models: list[Contestant]) -> list[ModelLine]:
    from arriero.evaluation.scores import ModelLine

    by_key = {model.artifact.manifest.key: model.name for model in models}
    return [
        ModelLine(
            name=model.name, kind=model.artifact.manifest.kind, format=model.spec.format,
            n_parameters=model.spec.n_parameters, weight_bytes=model.spec.weight_bytes,
            parent=next((by_key[i.key] for i in model.artifact.manifest.inputs if i.key in by_key), None),
        )
        for model in models
    ]  # fmt: skip


def _scores(
    settings: EvaluateSettings, models: list[Contestant], items: Items, results: Results, baseline: str, seed: int
) -> Scores:  # fmt: skip
    from arriero.evaluation.bootstrap import Resampling
    from arriero.evaluation.comparison import compare
    from arriero.evaluation.scores import Scores

    how = Resampling(settings.bootstrap_samples, settings.confidence, seed)
    lines = [*_model_lines(models), *results.references]
    return Scores(
        confidence=settings.confidence, bootstrap_samples=settings.bootstrap_samples, baseline=baseline, models=lines,
        measures=[compare(table, lines, baseline, how) for table in results.tables.values()],
        notes=[_text_note(settings, items)],
    )  # fmt: skip


def _text_note(settings: EvaluateSettings, items: Items) -> str:
    documents = items.documents
    note = f"text: {int(documents.bytes.sum()):,} bytes in {len(documents.ids):,} documents of '{settings.split}'"
    if settings.ngram or settings.unigram:
        fitted = (
            f"the first {settings.ngram_tokens:,} tokens at most" if settings.ngram_tokens else "all tokens"
        )
        note += f"; n-gram models are fitted on {fitted} of 'train'"
    return note


def _samples(settings: EvaluateSettings, results: Results) -> Samples | None:
    from arriero.evaluation.scores import Samples, SampleSet

    if not settings.prompts:
        return None
    sets = [
        SampleSet(prompt=prompt, answers=[answers[number] for answers in results.answers.values()])
        for number, prompt in enumerate(settings.prompts)
    ]
    return Samples(max_tokens=settings.sample_tokens, prompts=sets)


def _write(scores: Scores, samples: Samples | None, context: Context) -> None:
    from arriero.artifacts.commit import write_bytes_atomic
    from arriero.evaluation.scores import SAMPLES_FILE, SCORES_FILE, TABLE_FILE
    from arriero.evaluation.table import scores_markdown

    write_bytes_atomic(context.folder / SCORES_FILE, (scores.model_dump_json(indent=2) + "\n").encode())
    write_bytes_atomic(context.folder / TABLE_FILE, scores_markdown(scores).encode())
    if samples is not None:
        write_bytes_atomic(context.folder / SAMPLES_FILE, (samples.model_dump_json(indent=2) + "\n").encode())


def _facts(scores: Scores) -> dict[str, Any]:
    """The middle figures by measure and model, and the verdicts."""
    return {
        "scores": {m.name: {s.model: round(s.value, 6) for s in m.scores} for m in scores.measures},
        "verdicts": [d.verdict for m in scores.measures for d in m.differences],
    }
