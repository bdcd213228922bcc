"""Training of the linear classifier on two kinds of texts, e.g. pages that Wikipedia cites against random pages.

Logistic regression by AdaGrad (Duchi et al. 2011), one text at a time in a seeded order, the two kinds weighted to count
alike. One text in ten, chosen by a hash of its content, is held out: equal texts never stand on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from arriero.data.files import iter_lines
from arriero.data.filters.classifier import MOST_BITS, LinearModel
from arriero.data.filters.classifier_card import card_of
from arriero.data.filters.word_features import features_of, prepare
from arriero.data.jsonl import iter_records
from arriero.errors import ArrieroError

Texts = Path | Sequence[Path] | Iterable[str]
Features = tuple[NDArray[np.uint32], NDArray[np.float32]]

_HELD_OUT = 10
_LEAST = 20
_PIECE = 2000
_ENDINGS = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz", ".txt.zst", ".jsonl.zst")


class TrainingSettings(BaseModel):
    """How a classifier is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: int = Field(default=18, ge=8, le=MOST_BITS, description="2^bits buckets for words and word pairs")
    characters: int = Field(
        default=10_000,
        ge=0,
        description="how much of a text is looked at, in training and later; 0: all of it",
    )
    epochs: int = Field(default=5, ge=1, le=1000, description="passes over the texts")
    rate: float = Field(default=0.5, gt=0, description="AdaGrad's learning rate")
    most_texts: int = Field(
        default=30_000,
        ge=_LEAST,
        description="most texts of each kind, the first ones count; a text takes up to 20 kB of memory",
    )
    seed: int = Field(default=0, ge=0, description="random seed of the order of the texts")


def train_classifier(
    positive: Texts, negative: Texts, out: Path, settings: TrainingSettings | None = None
) -> dict[str, Any]:
    """Train on two kinds of texts, write ``out`` (.safetensors) and give its card.

    Args:
        positive: texts of the wanted kind: an iterable of texts, or files and folders (see :func:`texts_in`).
        negative: texts of the other kind.

    Returns:
        The card, which the file holds too: texts, held-out AUC and accuracy with their 95 % intervals, the words and
        word pairs of the greatest weights.

    Raises:
        ArrieroError: a kind has fewer than 20 different texts, or a file cannot be read.
    """
    settings = settings or TrainingSettings()
    kinds = []
    for name, texts in (("positive", positive), ("negative", negative)):
        chosen = _different(_texts(texts), settings.most_texts)
        if len(chosen) < _LEAST:
            raise ArrieroError(f"{len(chosen)} different texts are {name}; a classifier needs {_LEAST}")
        kinds.append(chosen)
    both = set(kinds[0]) & set(kinds[1])
    kinds = [[text for text in texts if text not in both] for texts in kinds]
    train: list[tuple[str, int]] = []
    held_out: list[tuple[str, int]] = []
    for label, texts in zip((1, 0), kinds, strict=True):
        for text in texts:
            (held_out if _is_held_out(text) else train).append((text, label))
    for part, name in ((train, "for training"), (held_out, "held out")):
        if len({label for _, label in part}) < 2:
            raise ArrieroError(f"too few texts: those {name} are all of one kind")
    weights, bias = _fit(train, settings)
    model = LinearModel(weights, bias, settings.characters, {})
    card = card_of(model, train, held_out, settings.model_dump())
    LinearModel(weights, bias, settings.characters, card).save(out)
    return card


def _is_held_out(text: str) -> bool:
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _HELD_OUT == 0


def _different(texts: Iterable[str], most: int) -> list[str]:
    found: dict[str, None] = {}
    for text in texts:
        if text.strip():
            found[text] = None
            if len(found) == most:
                break
    return list(found)


# ---------------------------------------------------------------------------------------- fitting


def _fit(texts: Sequence[tuple[str, int]], settings: TrainingSettings) -> tuple[NDArray[np.float32], float]:
    """Weights [2^bits] and bias."""
    features = [features_of(prepare(text, settings.characters), settings.bits) for text, _ in texts]
    labels = np.array([label for _, label in texts])
    share = labels.mean()
    importance = np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))
    size = 1 << settings.bits
    weights, squares = np.zeros(size), np.full(size, 1e-12)
    bias, bias_square = 0.0, 1e-12
    draw = np.random.default_rng(settings.seed)
    for _ in range(settings.epochs):
        for i in draw.permutation(len(texts)):
            buckets, shares = features[i]
            logit = bias + float(weights[buckets] @ shares)
            error = (1 / (1 + np.exp(-min(max(logit, -60.0), 60.0))) - labels[i]) * importance[i]
            gradient = error * shares
            square = squares[buckets] + gradient * gradient
            squares[buckets] = square
            weights[buckets] -= settings.rate * gradient / np.sqrt(square)
            bias_square += error * error
            bias -= settings.rate * error / bias_square**0.5
    return weights.astype(np.float32), float(bias)


# ---------------------------------------------------------------------------------------- texts


def _texts(texts: Texts) -> Iterator[str]:
    if isinstance(texts, str):
        raise TypeError("texts should be paths or several texts, not one")
    if isinstance(texts, Path):
        yield from texts_in(texts)
        return
    for item in texts:
        if isinstance(item, Path):
            yield from texts_in(item)
        else:
            yield item


def texts_in(path: Path) -> Iterator[str]:
    """The texts of a file, or of all files below a folder in the order of their names: the field ``text`` of JSON lines;
    a plain text cut at line ends into pieces of about 2000 characters. Each may be .gz or .zst.

    Raises:
        ArrieroError: it cannot be read, is of another kind, or a folder has no such file.
    """
    if path.is_dir():
        files = sorted(
            file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(_ENDINGS)
        )
        if not files:
            raise ArrieroError(f"{path} holds no .txt and no .jsonl (each also .gz or .zst)")
        for file in files:
            yield from texts_in(file)
    elif ".jsonl" in path.suffixes:
        for number, record in iter_records(path):
            if not isinstance(record.get("text"), str):
                raise ArrieroError(f"{path}, line {number}: there is no field 'text' with a text")
            yield record["text"]
    elif ".txt" in path.suffixes:
        yield from _pieces(line.data.decode("utf-8", "replace") for line in iter_lines(path))
    else:
        raise ArrieroError(f"{path} should be .txt or .jsonl (each also .gz or .zst)")


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    piece: list[str] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line) + 1
        if size >= _PIECE:
            yield "\n".join(piece)
            piece, size = [], 0
    if piece:
        yield "\n".join(piece)
