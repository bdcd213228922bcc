"""The work of the stage ``evaluate``: every model, one at a time, over the same held-out items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arriero.artifacts import Artifact
from arriero.errors import ArrieroError, Interrupted
from arriero.evaluation.answer_loss import score_conversations
from arriero.evaluation.answering import answer_prompts
from arriero.evaluation.answers import Answer, render_answer, render_pair
from arriero.evaluation.bits_per_byte import score_documents
from arriero.evaluation.cache import Arrays, Cache
from arriero.evaluation.comparison import (
    ANSWER_LOSS,
    BITS_PER_BYTE,
    PREFERENCE,
    PREFERENCE_MEAN,
    MeasureKind,
    Table,
)
from arriero.evaluation.documents import Documents, in_vocabulary_of, load_documents
from arriero.evaluation.forecast import batch_rows, forward_pass
from arriero.evaluation.heldout import heldout_conversations, heldout_preferences
from arriero.evaluation.preference import score_pairs
from arriero.evaluation.references import fit_reference, reference_orders
from arriero.evaluation.scores import ModelLine, Sample
from arriero.evaluation.settings import EvaluateSettings
from arriero.models.checkpoint import load_model, read_config
from arriero.models.protocol import LanguageModel
from arriero.stage import Context, ModelSpec, TokensSpec, open_input
from arriero.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder


@dataclass(frozen=True)
class Contestant:
    """A model to be compared: its artifact, its name in the comparison, and how it tokenises."""

    name: str
    artifact: Artifact
    spec: ModelSpec
    tokenizer: Tokenizer
    context: int


def contestants(models: list[Artifact]) -> list[Contestant]:
    """The models by their stages' names; two of one name get the beginning of their key behind it."""
    names = [model.name for model in models]
    return [
        Contestant(
            model.name if names.count(model.name) == 1 else f"{model.name}-{model.manifest.key[:6]}",
            model, open_input(model, ModelSpec), Tokenizer.load(model.path), read_config(model.path).context_length,
        )
        for model in models
    ]  # fmt: skip


@dataclass
class Items:
    """Conversations and pairs as one tokenizer renders them, without those that are too long for some model."""

    conversations: list[Answer]
    pairs: list[tuple[Answer, Answer]]


class Scorer:
    """Scores all models on all measures.

    Attributes:
        tables: per-item figures of every measure, by model, once :meth:`run` is done.
        answers: each model's answers to the prompts.
    """

    def __init__(self, settings: EvaluateSettings, models: list[Contestant], tokens: Artifact, context: Context) -> None:
        self.settings, self.models, self.tokens, self.context = settings, models, tokens, context
        self.cache = Cache(context.state / "scored")
        self.tables: dict[str, Table] = {}
        self.answers: dict[str, list[Sample]] = {}
        self.references: list[ModelLine] = []
        self._done = 0
        self._name = ""
        self._prepare()

    def run(self) -> None:
        """Score.

        Raises:
            Interrupted: asked to stop; what is scored so far is kept.
            ArrieroError: a model cannot be read, or a prompt is too long.
        """
        for contestant in self.models:
            self._score(contestant)
        for name, order in reference_orders(self.settings).items():
            self._reference(name, order)

    # ------------------------------------------------------------------------------------- what is scored

    def _prepare(self) -> None:
        settings, seed, most = self.settings, self.settings.holdout_seed, self.settings.max_items
        self.documents = load_documents(self.tokens.path, settings.split, settings.max_documents)
        if not self.documents.ids or not self.documents.bytes.sum():
            raise ArrieroError(f"{self.tokens.path}: the split '{settings.split}' has no text to score")
        share = settings.holdout_share
        self._conversations = heldout_conversations(settings.conversations, share, seed, most)
        self._pairs = heldout_preferences(settings.preferences, share, seed, most)
        self._table(BITS_PER_BYTE, len(self.documents.ids))
        if settings.conversations:
            self._table(ANSWER_LOSS, len(self._conversations))
        if settings.preferences:
            self._table(PREFERENCE, len(self._pairs))
            self._table(PREFERENCE_MEAN, len(self._pairs))
        items = next(iter(self._items.values()))
        for kind, found, files in (
            (ANSWER_LOSS, items.conversations, settings.conversations),
            (PREFERENCE, items.pairs, settings.preferences),
        ):
            if files and not found:
                context = min(c.context for c in self.models)
                raise ArrieroError(
                    f"no held-out {kind.items} in {files[0].name} (share {share:g}) fit the context of {context} tokens"
                )

    def _table(self, kind: MeasureKind, of: int) -> None:
        self.tables[kind.name] = Table(kind, of)

    @cached_property
    def _items(self) -> dict[str, Items]:
        """By tokenizer. An item that is too long for one model is left out for all."""
        context = min(contestant.context for contestant in self.models)
        chats = {c.tokenizer.fingerprint: c.tokenizer for c in self.models}
        rows = {
            print_: [render_answer(t.chat, row, context) for row in self._conversations] if self._conversations else []
            for print_, t in chats.items()
        }
        pairs = {
            print_: [render_pair(t.chat, pair, context) for pair in self._pairs] if self._pairs else []
            for print_, t in chats.items()
        }
        fits = [all(found) for found in zip(*([row is not None for row in r] for r in rows.values()), strict=True)]
        fit_pairs = [all(f) for f in zip(*([pair is not None for pair in p] for p in pairs.values()), strict=True)]
        return {
            print_: Items(
                [row for row, fit in zip(rows[print_], fits, strict=True) if fit and row is not None],
                [pair for pair, fit in zip(pairs[print_], fit_pairs, strict=True) if fit and pair is not None],
            )
            for print_ in chats
        }

    # ------------------------------------------------------------------------------------- models

    def _score(self, contestant: Contestant) -> None:
        model = _Lazy(contestant)
        name, items = contestant.name, self._items[contestant.tokenizer.fingerprint]
        self._name = name

        def bits() -> Arrays:
            documents = in_vocabulary_of(contestant.tokenizer, self.documents, self.tokens.path)
            stride = self.settings.stride
            if stride is not None and stride >= contestant.context:
                raise ArrieroError(
                    f"stride {stride} leaves no context to model '{name}', which takes {contestant.context} tokens; "
                    f"give at most {contestant.context - 1}"
                )
            found = score_documents(model.get(), documents, contestant.context, stride, self._tick(contestant))
            return {"bits": found}

        def nats() -> Arrays:
            found, counts = score_conversations(model.get(), items.conversations, self._tick(contestant))
            return {"nats": found, "tokens": counts}

        def wins() -> Arrays:
            scores = score_pairs(model.get(), items.pairs, self._tick(contestant))
            return {"by_sum": scores.by_sum, "by_mean": scores.by_mean}

        found = self.cache.arrays(BITS_PER_BYTE.name, name, bits)
        self._put(BITS_PER_BYTE, name, found["bits"], self.documents.bytes)
        if self.settings.conversations:
            found = self.cache.arrays(ANSWER_LOSS.name, name, nats)
            self._put(ANSWER_LOSS, name, found["nats"], found["tokens"])
        if self.settings.preferences:
            found = self.cache.arrays(PREFERENCE.name, name, wins)
            for kind, key in ((PREFERENCE, "by_sum"), (PREFERENCE_MEAN, "by_mean")):
                self._put(kind, name, found[key], np.ones(len(found[key])))
        if self.settings.prompts:
            self.answers[name] = self.cache.answers("answers", name, lambda: self._answer(contestant, model.get()))

    def _answer(self, contestant: Contestant, model: Decoder) -> list[Sample]:
        settings = self.settings
        return answer_prompts(model, contestant.tokenizer, settings.prompts, settings.sample_tokens, contestant.name)

    def _put(self, kind: MeasureKind, name: str, top: np.ndarray, bottom: np.ndarray) -> None:
        self.tables[kind.name].columns[name] = (top, bottom.astype(float))

    def _tick(self, contestant: Contestant) -> Progress:
        return Progress(self.context, contestant, self._name)

    # ------------------------------------------------------------------------------------- references

    def _reference(self, name: str, order: int) -> None:
        spec = open_input(self.tokens, TokensSpec)
        fitted = 0

        def bits() -> Arrays:
            nonlocal fitted
            self.context.progress(0, None, "tokens", model=name, step="fitting")
            model = fit_reference(self.tokens.path, order, spec.vocab_size, self.settings.ngram_tokens)
            _stop_if_asked(self.context)
            found = score_documents(model, self.documents, None, progress=lambda tokens: _stop_if_asked(self.context))
            return {"bits": found, "size": np.asarray([sum(model.parameter_counts().values())])}

        found = self.cache.arrays(BITS_PER_BYTE.name, f"reference {name}", bits)
        self._put(BITS_PER_BYTE, name, found["bits"], self.documents.bytes)
        self.references.append(ModelLine(name=name, kind="reference", n_parameters=int(found["size"][0])))


class _Lazy:
    """A model that is read when it is first needed, so that a resumed run reads none that it is done with."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant
        self._model: Decoder | None = None

    def get(self) -> Decoder:
        # float32 whatever the file holds: a comparison of weights, not of a processor's bfloat16
        if self._model is None:
            self._model = load_model(self._contestant.artifact.path, dtype="float32")
        return self._model


def _stop_if_asked(context: Context) -> None:
    if context.stop_requested():
        raise Interrupted("stopped while scoring; the models scored so far are kept")
