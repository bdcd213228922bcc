"""What a comparison will make and take, from specs."""

from __future__ import annotations

from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile
from arriero.cost.quantity import total
from arriero.evaluation.compare import CompareSettings
from arriero.evaluation.compare_entrants import NGRAM, context_of, family_of
from arriero.evaluation.forecast import Pass, batch_rows, config_of, expected_window_tokens, forward_pass
from arriero.evaluation.plan import (
    MEMORY_ERROR,
    MEMORY_OVERHEAD,
    fitting_and_scoring,
    planned_split,
    timed,
)
from arriero.evaluation.references import BYTES_PER_TOKEN
from arriero.stage import ComparisonSpec, ModelSpec, Plan, Specs, TokensSpec

_TRACED_LENGTH = 256
"""Rows of models without a context are traced at this length at most: their work goes with the tokens alone."""
_START_SECONDS, _MODEL_SECONDS = 0.5, 0.15
"""Reading the documents, and per model reading its files and tracing it for the FLOP count; measured on two cores."""
_LOG_BYTES = 8
"""Of a scored token's log-probability, kept for every model until the mixtures are fitted."""


def plan_comparison(settings: CompareSettings, specs: Specs, device: DeviceProfile) -> Plan:
    """Traced passes of every net over the expected rows, and the measured rates of the n-gram models.

    Raises:
        ArrieroError: the tokens have no such split.
    """
    tokens: TokensSpec = specs["tokens"]
    models: list[ModelSpec] = specs["models"]
    there = planned_split(tokens, settings.split, "train")
    documents = min(there.documents, settings.max_documents or there.documents)
    mean = max(2.0, there.tokens / max(1, there.documents))
    nets = [model for model in models if family_of(model) != NGRAM]
    passes = [_net_pass(model, mean, settings.stride, device) for model in nets]
    seconds = [timed(documents * sum(found.seconds for found in passes), device)]
    start = _START_SECONDS + _MODEL_SECONDS * len(models)
    seconds.append(Quantity.band(start, 1.0, "s", "modelled", "start-up"))
    ngrams = [int(model.config["order"]) for model in models if family_of(model) == NGRAM]
    if ngrams:
        seconds.append(_ngram_seconds(ngrams, tokens, documents * mean, device))
    counted = BYTES_PER_TOKEN * (max(ngrams, default=1) - 1) * tokens.splits["train"].tokens if nets else 0
    kept = _LOG_BYTES * len(models) * documents * mean
    memory = (
        device.process_bytes
        + kept
        + MEMORY_OVERHEAD * max([counted, *(found.peak_bytes for found in passes)])
    )
    families = len({model.model_dump_json() for model in models})
    return Plan(
        ComparisonSpec(families=families, runs=len(models)),
        Estimate(
            seconds=total(seconds, "s").model_copy(update={"source": "; ".join(p.source for p in seconds)}),
            peak_memory=Quantity.band(
                memory, MEMORY_ERROR, "B", "modelled", "process, and the largest pass or n-gram tables"
            ),
            flops=Quantity.exact(
                documents * sum(found.flops for found in passes), "FLOP", "modelled", "counted in the traced passes"
            ),
        ),
        [f"{len(models)} models over {documents:,} documents of about {mean:,.0f} tokens"],
    )  # fmt: skip


def _net_pass(model: ModelSpec, mean: float, stride: int | None, device: DeviceProfile) -> Pass:
    """A net's share of a document of ``mean`` tokens; the peak is that of a whole batch."""
    context = context_of(model)
    scored = expected_window_tokens(mean, context, stride) if context else mean
    length = round(min(context or _TRACED_LENGTH, mean))
    rows = batch_rows(length)
    found = forward_pass(config_of(model.config), model.format, rows, length, device)
    share = scored / (rows * length)
    return Pass(share * found.seconds, share * found.flops, found.peak_bytes)


def _ngram_seconds(orders: list[int], tokens: TokensSpec, scored: float, device: DeviceProfile) -> Quantity:
    """Every n-gram model scores twice, and is fitted once more on as many tokens as the slowest net has seen."""
    most = fitting_and_scoring(orders, tokens.splits["train"].tokens, 2 * len(orders) * scored, device)
    return most if most.value is None else most.model_copy(update={"low": 0.0})
