"""The work of the stage ``evaluate``: every model, one at a time, over the same held-out items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from arriero.artifacts import Artifact
from arriero.errors import ArrieroError
from arriero.evaluation.answer_loss import score_conversations
from arriero.evaluation.answering import answer_prompts
from arriero.evaluation.bits_per_byte import score_documents, window_tokens
from arriero.evaluation.cache import Arrays, Cache
from arriero.evaluation.comparison import (
    ANSWER_LOSS,
    BITS_PER_BYTE,
    PREFERENCE,
    PREFERENCE_MEAN,
    MeasureKind,
    Table,
)
from arriero.evaluation.documents import in_vocabulary_of
from arriero.evaluation.forecast import row_flops
from arriero.evaluation.items import Contestant, Items
from arriero.evaluation.preference import score_pairs
from arriero.evaluation.progress import Counter, stop_if_asked
from arriero.evaluation.references import fit_reference, reference_orders
from arriero.evaluation.scores import ModelLine, Sample
from arriero.evaluation.settings import EvaluateSettings
from arriero.models.checkpoint import load_language_model, load_model, read_config
from arriero.stage import Context, TokensSpec, open_input

if TYPE_CHECKING:
    from arriero.evaluation.progress import Progress


@dataclass
class Results:
    """Per-item figures of every measure, the references that were fitted, and the models' answers."""

    tables: dict[str, Table]
    references: list[ModelLine] = field(default_factory=list)
    answers: dict[str, list[Sample]] = field(default_factory=dict)

    def put(self, kind: MeasureKind, model: str, top: np.ndarray, bottom: np.ndarray) -> None:
        self.tables[kind.name].columns[model] = (top.astype(float), bottom.astype(float))


def empty_results(settings: EvaluateSettings, items: Items) -> Results:
    """A table for every measure that the settings ask for."""
    kinds = [(BITS_PER_BYTE, len(items.documents.ids))]
    if settings.conversations:
        kinds.append((ANSWER_LOSS, items.n_conversations))
    if settings.preferences:
        kinds += [(PREFERENCE, items.n_pairs), (PREFERENCE_MEAN, items.n_pairs)]
    return Results({kind.name: Table(kind, of) for kind, of in kinds})


class _Weights:
    """A model that is read when it is first needed: a resumed run reads none that it is done with.

    In float32 whatever the file holds: the comparison is one of weights, not of a processor's bfloat16.
    """

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant
        self._model: Any = None

    def get(self) -> Any:
        if self._model is None:
            path = self._contestant.artifact.path
            ngram = self._contestant.is_ngram
            self._model = load_language_model(path) if ngram else load_model(path, dtype="float32")
        return self._model


def _row_flops(contestant: Contestant) -> Callable[[int], float]:
    return row_flops(read_config(contestant.artifact.path), contestant.spec.format)


def _no_flops(tokens: int) -> float:
    """Looking up counts takes no arithmetic to speak of."""
    return 0.0


class Scorer:
    """Scores models and references into ``results``; each result is cached as soon as it is there."""

    def __init__(
        self, settings: EvaluateSettings, tokens: Artifact, items: Items, models: list[Contestant], context: Context
    ) -> None:  # fmt: skip
        self.settings, self.tokens, self.items, self.models, self.context = (
            settings,
            tokens,
            items,
            models,
            context,
        )
        self.results = empty_results(settings, items)
        self._cache = Cache(context.state / "scored")
        self._counter = Counter(context, sum(sum(self._sizes(model).values()) for model in models))

    def run(self) -> Results:
        """Score everything that is not in the cache.

        Raises:
            Interrupted: asked to stop; what is scored so far is kept.
            ArrieroError: a model cannot be read, a prompt is too long for it, or the stride does not fit.
        """
        for contestant in self.models:
            self._score(contestant)
        for name, order in reference_orders(self.settings).items():
            self._score_reference(name, order)
        return self.results

    def _sizes(self, model: Contestant) -> dict[str, int]:
        """Tokens that go through the model, by measure."""
        items = self.items.rendered[model.tokenizer.fingerprint]
        lengths = [len(ids) for ids in self.items.documents.ids]
        return {
            BITS_PER_BYTE.name: window_tokens(lengths, model.context, self.settings.stride),
            ANSWER_LOSS.name: sum(len(answer.ids) for answer in items.conversations),
            PREFERENCE.name: sum(len(side.ids) for pair in items.pairs for side in pair),
        }

    def _score(self, contestant: Contestant) -> None:
        name, weights = contestant.name, _Weights(contestant)
        flops = _no_flops if contestant.is_ngram else _row_flops(contestant)
        for measure, tokens in self._sizes(contestant).items():
            if self._cache.has(measure, name):
                self._counter.skip(tokens)
        self._score_documents(contestant, weights, self._counter.of(name, BITS_PER_BYTE.title, flops))
        if self.settings.conversations:
            self._score_conversations(contestant, weights, self._counter.of(name, ANSWER_LOSS.title, flops))
        if self.settings.preferences:
            self._score_pairs(contestant, weights, self._counter.of(name, PREFERENCE.title, flops))
        if self.settings.prompts and contestant.is_ngram:
            self.context.say(f"model '{name}' is an n-gram: it answers no prompts")
        elif self.settings.prompts:
            stop_if_asked(self.context)
            self.results.answers[name] = self._cache.answers(
                "answers", name, lambda: self._answer(contestant, weights)
            )

    def _score_documents(self, contestant: Contestant, weights: _Weights, progress: Progress) -> None:
        stride = self.settings.stride
        if stride is not None and stride >= contestant.context:
            raise ArrieroError(
                f"stride {stride} leaves nothing before the tokens of model '{contestant.name}', whose context is "
                f"{contestant.context} tokens; give less"
            )

        def make() -> Arrays:
            documents = in_vocabulary_of(contestant.tokenizer, self.items.documents, self.tokens.path)
            return {"bits": score_documents(weights.get(), documents, contestant.context, stride, progress)}

        found = self._cache.arrays(BITS_PER_BYTE.name, contestant.name, make)
        self.results.put(BITS_PER_BYTE, contestant.name, found["bits"], self.items.documents.bytes)

    def _score_conversations(self, contestant: Contestant, weights: _Weights, progress: Progress) -> None:
        items = self.items.rendered[contestant.tokenizer.fingerprint].conversations

        def make() -> Arrays:
            nats, tokens = score_conversations(weights.get(), items, progress)
            return {"nats": nats, "tokens": tokens}

        found = self._cache.arrays(ANSWER_LOSS.name, contestant.name, make)
        self.results.put(ANSWER_LOSS, contestant.name, found["nats"], found["tokens"])

    def _score_pairs(self, contestant: Contestant, weights: _Weights, progress: Progress) -> None:
        items = self.items.rendered[contestant.tokenizer.fingerprint].pairs

        def make() -> Arrays:
            scores = score_pairs(weights.get(), items, progress)
            return {"by_sum": scores.by_sum, "by_mean": scores.by_mean}

        found = self._cache.arrays(PREFERENCE.name, contestant.name, make)
        for kind, key in ((PREFERENCE, "by_sum"), (PREFERENCE_MEAN, "by_mean")):
            self.results.put(kind, contestant.name, found[key], np.ones(len(found[key])))

    def _answer(self, contestant: Contestant, weights: _Weights) -> list[Sample]:
        settings = self.settings
        return answer_prompts(
            weights.get(), contestant.tokenizer, settings.prompts, settings.sample_tokens, contestant.name
        )

    def _score_reference(self, name: str, order: int) -> None:
        vocabulary = open_input(self.tokens, TokensSpec).vocab_size
        stop_if_asked(self.context)

        def make() -> Arrays:
            self._counter.show(name, "fitting")
            model = fit_reference(self.tokens.path, order, vocabulary, self.settings.ngram_tokens)
            bits = score_documents(
                model, self.items.documents, None, progress=lambda _: stop_if_asked(self.context)
            )
            return {"bits": bits, "size": np.asarray([sum(model.parameter_counts().values())])}

        found = self._cache.arrays(BITS_PER_BYTE.name, f"reference {name}", make)
        self.results.put(BITS_PER_BYTE, name, found["bits"], self.items.documents.bytes)
        self.results.references.append(
            ModelLine(name=name, kind="reference", n_parameters=int(found["size"][0]))
        )
