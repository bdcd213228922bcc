"""The held-out items of a comparison, the same for every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from arriero.artifacts import Artifact
from arriero.data.conversations import Message, Preference
from arriero.errors import ArrieroError
from arriero.evaluation.answers import Answer, render_answer, render_pair
from arriero.evaluation.documents import Documents, load_documents
from arriero.evaluation.heldout import heldout_conversations, heldout_preferences
from arriero.evaluation.settings import EvaluateSettings
from arriero.stage import ModelSpec, open_input
from arriero.tokenization.tokenizer import Tokenizer

T = TypeVar("T")
NO_LIMIT = 1 << 40
"""Context of a model that takes texts of any length."""


@dataclass(frozen=True)
class Contestant:
    """A model to be compared: its artifact, its name in the comparison, how it tokenises and how far it sees."""

    name: str
    artifact: Artifact
    spec: ModelSpec
    tokenizer: Tokenizer
    context: int

    @property
    def is_ngram(self) -> bool:
        return is_ngram(self.spec)


def is_ngram(spec: ModelSpec) -> bool:
    """Whether the model is a table of counts, not a network."""
    return spec.config.get("family") == "ngram"


def context_of(spec: ModelSpec) -> int:
    """Most tokens that the model takes at once."""
    return int(spec.config.get("context_length") or NO_LIMIT)


def contestants(models: Sequence[Artifact]) -> list[Contestant]:
    """The models by their stages' names; two of one name get the beginning of their key behind it.

    Raises:
        ArrieroError: one model is given twice.
    """
    names = [model.name for model in models]
    keys = [model.manifest.key for model in models]
    for model in models:
        if keys.count(model.manifest.key) > 1:
            raise ArrieroError(f"model '{model.name}' is given twice")
    return [
        Contestant(
            model.name if names.count(model.name) == 1 else f"{model.name}-{model.manifest.key[:6]}",
            model, open_input(model, ModelSpec), Tokenizer.load(model.path), context_of(open_input(model, ModelSpec)),
        )
        for model in models
    ]  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    """Conversations and pairs as one tokenizer has them."""

    conversations: list[Answer]
    pairs: list[tuple[Answer, Answer]]

    @property
    def n_tokens(self) -> int:
        return sum(len(a.ids) for a in self.conversations) + sum(
            len(s.ids) for pair in self.pairs for s in pair
        )


@dataclass(frozen=True)
class Items:
    """What is scored. ``rendered`` goes by the tokenizer's fingerprint; every list has the same items in it."""

    documents: Documents
    rendered: dict[str, Rendered]
    n_conversations: int
    n_pairs: int


def load_items(settings: EvaluateSettings, tokens: Artifact, models: Sequence[Contestant]) -> Items:
    """Read and render all held-out items. An item that is too long for one model is left out for all.

    Raises:
        ArrieroError: a file cannot be read, or there is nothing to score.
    """
    documents = load_documents(tokens.path, settings.split, settings.max_documents)
    if not len(documents.ids) or not documents.bytes.sum():
        raise ArrieroError(f"{tokens.path}: the split '{settings.split}' has no text to score")
    rows, pairs = heldout_conversations(settings), heldout_preferences(settings)
    rendered = _render(rows, pairs, models)
    first = next(iter(rendered.values()))
    _refuse_nothing("conversations", settings.conversations, first.conversations, settings, models)
    _refuse_nothing("pairs", settings.preferences, first.pairs, settings, models)
    return Items(documents, rendered, len(rows), len(pairs))


def _render(
    rows: Sequence[list[Message]], pairs: Sequence[Preference], models: Sequence[Contestant]
) -> dict[str, Rendered]:
    context = min(model.context for model in models)
    tokenizers = {model.tokenizer.fingerprint: model.tokenizer for model in models}
    by_row: dict[str, list[Answer | None]] = {}
    by_pair: dict[str, list[tuple[Answer, Answer] | None]] = {}
    for print_, tokenizer in tokenizers.items():
        by_row[print_] = [render_answer(tokenizer.chat, row, context) for row in rows]
        by_pair[print_] = [render_pair(tokenizer.chat, pair, context) for pair in pairs]
    whole_rows, whole_pairs = _in_all(list(by_row.values())), _in_all(list(by_pair.values()))
    return {p: Rendered(whole_rows[i], whole_pairs[i]) for i, p in enumerate(tokenizers)}


def _in_all(columns: list[list[T | None]]) -> list[list[T]]:
    """The columns without the places where any of them has None."""
    whole = [all(item is not None for item in places) for places in zip(*columns, strict=True)]
    return [
        [item for item, ok in zip(column, whole, strict=True) if ok and item is not None]
        for column in columns
    ]


def _refuse_nothing(
    what: str,
    files: Sequence[object],
    found: Sequence[object],
    settings: EvaluateSettings,
    models: Sequence[Contestant],
) -> None:
    if files and not found:
        context = min(model.context for model in models)
        raise ArrieroError(
            f"no held-out {what} are left to score in {files[0]}: the held-out share is {settings.holdout_share:g}, "
            f"and they must fit the context of {context} tokens"
        )
