"""What an evaluation will make and take, from specs and from the held-out files as they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile
from arriero.cost.quantity import total
from arriero.data.conversations import Preference
from arriero.errors import ArrieroError, did_you_mean
from arriero.evaluation.answers import ROWS_AT_ONCE
from arriero.evaluation.comparison import ANSWER_LOSS, BITS_PER_BYTE, PREFERENCE, PREFERENCE_MEAN
from arriero.evaluation.forecast import (
    batch_rows,
    config_of,
    expected_window_tokens,
    forward_pass,
    forward_ratio,
)
from arriero.evaluation.heldout import heldout_conversations, heldout_preferences
from arriero.evaluation.items import NO_LIMIT, is_ngram
from arriero.evaluation.references import (
    BYTES_PER_TOKEN,
    FIT_RATE,
    SCORE_RATE,
    fitting_work,
    reference_orders,
)
from arriero.evaluation.settings import EvaluateSettings
from arriero.stage import ModelSpec, Plan, ScoresSpec, Specs, TokenSplitSpec, TokensSpec
from arriero.training.planned_rows import planned_row

_MODEL_ERROR = 0.15
"""Half-width of the band that the priced trace itself deserves, over the probe's spread."""
LENGTH_VARIANCE = 5.0
"""Of the lengths of documents, over their mean's square: in a mixture of short texts and books (the quickstart's: 8 in the part that is
trained on, 2.5 in the part held out). One would be exponentially distributed lengths."""
MEMORY_OVERHEAD, MEMORY_ERROR = 1.15, 0.25
_ENGINE_BATCH = 8
"""Prompts that the engine answers at a time."""


_LOADED_NGRAM = 2
"""Memory that a model of counts takes while it is read, over its file."""


@dataclass(frozen=True)
class Load:
    """Passes of ``rows`` rows of ``length`` tokens; ``passes`` need not be whole."""

    rows: int
    length: int
    passes: float


@dataclass(frozen=True)
class Heldout:
    """What is known of the items before they are tokenised: how many, and how long."""

    documents: int
    mean_length: float
    rows: list[int]
    """Tokens of each conversation and of each side of each pair."""


def plan_evaluation(settings: EvaluateSettings, specs: Specs, device: DeviceProfile) -> Plan:
    """Traced passes of every model over the expected rows, and the probes' rates for the n-gram models.

    Raises:
        ArrieroError: the tokens have no such split, or a held-out file cannot be read.
    """
    tokens: TokensSpec = specs["tokens"]
    models: list[ModelSpec] = specs["models"]
    needed = ["train"] if reference_orders(settings) else []
    heldout = _heldout(settings, planned_split(tokens, settings.split, *needed), tokens.vocab_size)
    traced = of_documents = flops = peak = 0.0
    ngrams = [model for model in models if is_ngram(model)]
    for model in (model for model in models if not is_ngram(model)):
        config = config_of(model.config)
        for number, load in enumerate(_loads(settings, heldout, config)):
            found = forward_pass(config, model.format, load.rows, load.length, device)
            traced, flops = traced + load.passes * found.seconds, flops + load.passes * found.flops
            of_documents += load.passes * found.seconds if number == 0 else 0.0
            peak = max(peak, found.peak_bytes)
    doubt = length_doubt(heldout.documents) * (of_documents / traced if traced else 0.0)
    seconds = [timed(traced, device, doubt), *_reference_seconds(settings, tokens, heldout, device)]
    if ngrams:
        seconds.append(_ngram_seconds(len(ngrams), heldout, device))
        peak = max(peak, *(_LOADED_NGRAM * model.weight_bytes for model in ngrams))
    highest = max(reference_orders(settings).values(), default=1)
    counting = BYTES_PER_TOKEN * (highest - 1) * (_fitted_tokens(settings, tokens) if highest > 1 else 0)
    memory = device.process_bytes + MEMORY_OVERHEAD * max(peak, counting)
    estimate = Estimate(
        seconds=total(seconds, "s").model_copy(update={"source": "; ".join(part.source for part in seconds)}),
        peak_memory=Quantity.band(
            memory,
            MEMORY_ERROR,
            "B",
            "modelled",
            "process, and the largest model's pass or the n-gram's tables",
        ),
        flops=Quantity.exact(flops, "FLOP", "modelled", "counted in the traced passes"),
    )
    rows = f", {len(heldout.rows):,} rows of conversations and pairs" if heldout.rows else ""
    return Plan(
        _spec(settings, models),
        estimate,
        [f"{len(models)} models over {heldout.documents:,} documents{rows}"],
    )


def _spec(settings: EvaluateSettings, models: Sequence[ModelSpec]) -> ScoresSpec:
    kinds = [BITS_PER_BYTE, *([ANSWER_LOSS] if settings.conversations else [])]
    kinds += [PREFERENCE, PREFERENCE_MEAN] if settings.preferences else []
    names = [f"model {number} ({model.format})" for number, model in enumerate(models, start=1)]
    return ScoresSpec(models=[*names, *reference_orders(settings)], measures=[kind.name for kind in kinds])


def planned_split(tokens: TokensSpec, split: str, *others: str) -> TokenSplitSpec:
    """The split that will be scored.

    Raises:
        ArrieroError: the tokens lack it, or one of the ``others`` that are needed besides.
    """
    for name in (split, *others):
        if name not in tokens.splits:
            raise ArrieroError(f"the tokens have no split '{name}'{did_you_mean(name, tokens.splits)}")
    return tokens.splits[split]


def _heldout(settings: EvaluateSettings, split: TokenSplitSpec, vocab_size: int) -> Heldout:
    conversations = heldout_conversations(settings)
    sides = [side for pair in heldout_preferences(settings) for side in _sides(pair)]
    lengths = [len(planned_row(row, vocab_size, 1 << 30).ids) for row in [*conversations, *sides]]
    documents = min(split.documents, settings.max_documents or split.documents)
    return Heldout(documents, max(2.0, split.tokens / max(1, split.documents)), lengths)


def _sides(pair: Preference) -> list[list[dict[str, str]]]:
    return [[*pair.prompt, {"role": "assistant", "content": text}] for text in (pair.chosen, pair.rejected)]


def _loads(settings: EvaluateSettings, heldout: Heldout, config: Any) -> list[Load]:
    """Documents by their expected windows, rows by their mean length, answers to the prompts token by token."""
    context = config.context_length or NO_LIMIT
    tokens = heldout.documents * expected_window_tokens(heldout.mean_length, context, settings.stride)
    length = round(min(context, heldout.mean_length))
    rows = batch_rows(length)
    loads = [Load(rows, length, tokens / (rows * length))]
    fitting = [n for n in heldout.rows if n <= context]
    if fitting:
        length = max(2, round(sum(fitting) / len(fitting)))
        rows = min(ROWS_AT_ONCE, batch_rows(length), len(fitting))
        loads.append(Load(rows, length, sum(fitting) / (rows * length)))
    if settings.prompts:
        batches = -(-len(settings.prompts) // _ENGINE_BATCH)
        rows = min(_ENGINE_BATCH, len(settings.prompts))
        loads.append(Load(rows, 2, batches * min(settings.sample_tokens, context)))
    return loads


def length_doubt(documents: int) -> float:
    """Half-width of an 80 % interval for the tokens of so many documents, as a share, where only the mean length of those
    that they are drawn from is known: their number is taken to be a draw, their lengths to vary as ``LENGTH_VARIANCE`` says."""
    return 1.28 * math.sqrt((1 + LENGTH_VARIANCE) / max(1, documents))


def timed(traced: float, device: DeviceProfile, doubt: float = 0.0) -> Quantity:
    """Seconds of passes whose priced traces come to ``traced``, by the probe's ratio of real to priced.

    Args:
        doubt: half-width of the band of how much there is to pass, as a share.
    """
    ratio = forward_ratio(device)
    if ratio is None:
        return Quantity.band(traced, 1.0, "s", "modelled", "traced passes; no real pass was measured here")
    spread = (1 + ratio.spread) * (1 + _MODEL_ERROR) * (1 + doubt) - 1
    source = (
        f"traced passes x {ratio.per_s:.2f}, the ratio of a real pass to its priced trace on this machine"
    )
    return Quantity.band(traced * ratio.per_s, spread, "s", "modelled", source)


def _fitted_tokens(settings: EvaluateSettings, tokens: TokensSpec) -> int:
    there = tokens.splits["train"].tokens
    return min(there, settings.ngram_tokens or there)


def _ngram_seconds(models: int, heldout: Heldout, device: DeviceProfile) -> Quantity:
    """Scoring with n-gram models that a stage has made."""
    rate = device.rate(SCORE_RATE)
    if rate is None:
        return Quantity.unknown("s", f"no rate {SCORE_RATE} in the device profile")
    scored = models * (heldout.documents * heldout.mean_length + sum(heldout.rows))
    return Quantity.band(scored / rate.per_s, rate.spread, "s", "modelled", "measured n-gram rate")


def _reference_seconds(
    settings: EvaluateSettings, tokens: TokensSpec, heldout: Heldout, device: DeviceProfile
) -> list[Quantity]:
    orders = reference_orders(settings)
    if not orders:
        return []
    fitted = _fitted_tokens(settings, tokens)
    scored = len(orders) * heldout.documents * heldout.mean_length
    return [fitting_and_scoring(orders.values(), fitted, scored, device)]


def fitting_and_scoring(orders: Iterable[int], fitted: int, scored: float, device: DeviceProfile) -> Quantity:
    """Seconds to fit n-gram models of the ``orders`` on ``fitted`` tokens each and to score ``scored`` tokens in all."""
    fit, score = device.rate(FIT_RATE), device.rate(SCORE_RATE)
    if fit is None or score is None:
        return Quantity.unknown("s", f"no rate {FIT_RATE} in the device profile")
    value = sum(fitting_work(order, fitted) for order in orders) / fit.per_s + scored / score.per_s
    return Quantity.band(value, max(fit.spread, score.spread), "s", "modelled", "measured n-gram rates")
