"""What a classifier says of itself: how well it parts held-out texts, and by which words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arriero.data.filters.classifier import LinearModel
from arriero.data.filters.word_features import buckets_of, prepare, words_of

_TOP = 30
_SHOWN_FROM = 300
"""Texts in which the words of the top buckets are looked for."""
_Z = 1.959964


def card_of(
    model: LinearModel,
    train: Sequence[tuple[str, int]],
    held_out: Sequence[tuple[str, int]],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The card of a model: counts of texts, AUC, accuracy, top words; every figure of the held-out texts."""
    scores = np.array([model.probability(text) for text, _ in held_out])
    labels = np.array([label for _, label in held_out])
    right = int(((scores >= 0.5) == (labels == 1)).sum())
    area, area_interval = auc(scores[labels == 1], scores[labels == 0])
    return {
        "texts": {
            "train": {"positive": sum(y for _, y in train), "negative": sum(1 - y for _, y in train)},
            "held_out": {"positive": int(labels.sum()), "negative": int((1 - labels).sum())},
        },
        "auc": area,
        "auc_interval": area_interval,
        "accuracy": right / labels.size,
        "accuracy_interval": wilson(right, labels.size),
        "top": {
            "positive": top_features(model, [text for text, y in train if y], 1),
            "negative": top_features(model, [text for text, y in train if not y], -1),
        },
        "settings": dict(settings),
    }


def auc(positive: ArrayLike, negative: ArrayLike) -> tuple[float, list[float]]:
    """Area under the ROC curve and its 95 % interval by DeLong et al. (1988), from midranks (Sun and Xu 2014)."""
    high, low = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    m, n = high.size, low.size
    ranks = _midranks(np.concatenate([high, low]))
    over_low = (ranks[:m] - _midranks(high)) / n
    over_high = 1 - (ranks[m:] - _midranks(low)) / m
    area = float(over_low.mean())
    variance = sum(part.var(ddof=1) / part.size for part in (over_low, over_high) if part.size > 1)
    half = _Z * math.sqrt(float(variance))
    return area, [max(area - half, 0.0), min(area + half, 1.0)]


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return middle


def wilson(right: int, total: int) -> list[float]:
    """95 % interval of a share (Wilson 1927)."""
    share, z2 = right / total, _Z * _Z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return [max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0)]


def top_features(model: LinearModel, texts: Sequence[str], sign: int) -> list[dict[str, Any]]:
    """The words and pairs that speak most for a kind over its own texts: weight times share of all features."""
    every: Counter[str] = Counter()
    buckets: dict[str, int] = {}
    for text in texts[:_SHOWN_FROM]:
        data = prepare(text, model.characters)
        words, pairs = buckets_of(data, model.bits)
        names = [
            data[start:end].decode("utf-8", "replace") for start, end in zip(*words_of(data), strict=True)
        ]
        both = [f"{first} {second}" for first, second in pairwise(names)]
        every.update(names)
        every.update(both)
        buckets.update(zip(names, words.tolist(), strict=True))
        buckets.update(zip(both, pairs.tolist(), strict=True))
    total = max(sum(every.values()), 1)
    speaking = (
        (sign * float(model.weights[buckets[name]]) * count / total, name)
        for name, count in every.items()
        if count > 1
    )
    best = sorted(speaking, key=lambda pair: (-pair[0], pair[1]))[:_TOP]
    return [
        {"feature": name, "weight": float(model.weights[buckets[name]])} for value, name in best if value > 0
    ]
