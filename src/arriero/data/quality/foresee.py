"""What an up-weighting will leave, foreseen from how the figure is spread over the corpus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arriero.data.audit.schema import FACT, MEASURE
from arriero.data.quality.settings import QualitySettings
from arriero.data.quality.spread import mean_epochs
from arriero.errors import ArrieroError, did_you_mean
from arriero.stage import CorpusSpec, TokenSplitSpec

MOST_EPOCHS = 4.0
"""Text that is repeated more often than that teaches little (Muennighoff et al. 2023, arXiv 2305.16264)."""


@dataclass(frozen=True)
class Weighted:
    """The training split after the weighting, and what the plan says of it."""

    split: TokenSplitSpec
    note: str


def foresee(settings: QualitySettings, corpus: CorpusSpec, split: TokenSplitSpec) -> Weighted:
    """
    Raises:
        ArrieroError: the corpus does not measure the figure, or no document would be taken.
    """
    spread = corpus.figures.get(settings.figure.removeprefix(MEASURE))
    known = sorted(corpus.figures)
    if spread is None and known and not _is_other_column(settings.figure):
        raise ArrieroError(
            f"quality: the corpus measures no figure '{settings.figure}'{did_you_mean(settings.figure, known)}"
        )
    least, most = settings.range
    if spread is None:
        epochs, repeated = (least + most) / 2, 0.0
        why = f"between {least:g} and {most:g}, since nothing is known yet of {settings.figure}"
    else:
        epochs = mean_epochs(settings, spread)
        repeated = mean_epochs(_beyond_the_first(settings), spread)
        why = f"by {settings.figure} of the corpus's text"
    if not epochs:
        raise ArrieroError(
            f"quality: no document would be taken, by its {settings.figure}; change the buckets"
        )
    tokens = max(1, round(split.tokens * epochs))
    note = f"quality: documents are taken {epochs:.2f} times on the average ({why}), {repeated:.2f} of it repeats"
    if most > MOST_EPOCHS:
        note += f"; {most:g} epochs of a bucket are more than the {MOST_EPOCHS:g} that still teach"
    return Weighted(
        TokenSplitSpec(
            documents=max(1, round(split.documents * epochs)),
            tokens=tokens,
            bytes=max(1, round(split.bytes * epochs)),
            repeated=min(tokens, round(split.tokens * repeated)),
        ),
        note,
    )


def _beyond_the_first(settings: QualitySettings) -> QualitySettings:
    """The same buckets with the epochs that are repeats: all above the first."""
    beyond = [float(e) for e in np.maximum(np.array(settings.epochs) - 1, 0)]
    buckets = [
        bucket.model_copy(update={"epochs": e})
        for bucket, e in zip(settings.buckets, beyond[: len(settings.buckets)], strict=True)
    ]
    return settings.model_copy(update={"buckets": buckets, "otherwise": beyond[-2], "unmeasured": beyond[-1]})


def _is_other_column(figure: str) -> bool:
    """A fact or a column that every ledger has; of these no spread is kept."""
    from arriero.data.audit.schema import BASE
    from arriero.data.facts import FACTS

    facts = {fact.name for fact in FACTS}
    return figure.removeprefix(FACT) in facts or figure in {field.name for field in BASE}
