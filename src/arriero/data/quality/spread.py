"""How a figure is spread over a corpus's text, in a few numbers: for the plan of what is taken how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arriero.data.audit.schema import MEASURE
from arriero.data.quality.settings import QualitySettings
from arriero.stage import FigureSpread

_QUANTILES = 41
_POINTS = 4001
_ROWS = 1 << 16
"""Documents of a corpus whose figures are looked at."""
LANGUAGE = "lang_score"


def spread_of(values: ArrayLike, weights: ArrayLike) -> FigureSpread:
    """The spread of a figure (NaN: not measured) over texts of so many bytes."""
    figures, sizes = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    known = ~np.isnan(figures)
    total = float(sizes.sum())
    if not known.any() or not sizes[known].sum():
        return FigureSpread(measured=0.0, quantiles=[])
    order = np.argsort(figures[known], kind="stable")
    ranked, mass = figures[known][order], np.cumsum(sizes[known][order])
    places = np.searchsorted(mass, np.linspace(0, 1, _QUANTILES) * mass[-1], "left")
    quantiles = ranked[np.minimum(places, ranked.size - 1)]
    return FigureSpread(measured=float(sizes[known].sum()) / total, quantiles=[float(q) for q in quantiles])


def mean_epochs(settings: QualitySettings, spread: FigureSpread) -> float:
    """How often a byte of text is taken, on the average."""
    epochs = np.array(settings.epochs)
    if not spread.quantiles:
        return settings.unmeasured
    grid = np.linspace(0, 1, len(spread.quantiles))
    values = np.interp((np.arange(_POINTS) + 0.5) / _POINTS, grid, spread.quantiles)
    return float(
        spread.measured * epochs[settings.buckets_of(values)].mean()
        + (1 - spread.measured) * settings.unmeasured
    )


def figure_names(columns: Iterable[str]) -> list[str]:
    """The ledger's columns that a spread is kept of: what filters measured."""
    return sorted(name for name in columns if name.startswith(MEASURE) or name == LANGUAGE)


def corpus_spreads(folder: Path) -> dict[str, FigureSpread]:
    """The spread of every figure that filters measured over a corpus's kept text, from an even sample of its rows."""
    from arriero.data.audit.arrays import to_numpy
    from arriero.data.audit.curated import CuratedCorpus

    corpus = CuratedCorpus(folder)
    names = figure_names(corpus.schema.names)
    step = -(-len(corpus) // _ROWS) or 1
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in [*names, "kept_bytes"]}
    if not names:
        return {}
    for part, table in corpus.tables(["reason", "kept_bytes", *names]):
        start = int(corpus.starts[corpus.parts.index(part)])
        chosen = np.arange(-start % step, table.num_rows, step)
        chosen = chosen[to_numpy(table["reason"])[chosen] == ""]
        for name, found in parts.items():
            found.append(to_numpy(table[name])[chosen].astype(np.float64))
    joined = {name: np.concatenate(found) for name, found in parts.items()}
    return spreads_of({name: joined[name] for name in names}, joined["kept_bytes"])


def spreads_of(figures: Mapping[str, ArrayLike], weights: ArrayLike) -> dict[str, FigureSpread]:
    """By name, without ``m_``; a language's probability only where languages were told."""
    found = {name.removeprefix(MEASURE): spread_of(values, weights) for name, values in figures.items()}
    return {name: spread for name, spread in found.items() if name != LANGUAGE or spread.quantiles}
