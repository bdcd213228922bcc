"""How often documents are taken, by buckets of a figure that curation measured of them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST = 64
"""Copies of a document; anything near that teaches nothing."""


class Bucket(BaseModel):
    """Documents whose figure is at least, or at most, a value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_least: float | None = Field(
        default=None, allow_inf_nan=False, description="smallest figure of the bucket, itself included"
    )
    at_most: float | None = Field(
        default=None, allow_inf_nan=False, description="largest figure of the bucket, itself included"
    )
    epochs: float = Field(
        ge=0, le=MOST, description="how often its documents are taken; 1.5: all once and every other twice"
    )

    @model_validator(mode="after")
    def _one_border(self) -> Bucket:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a bucket has one border: either at_least or at_most")
        return self

    @property
    def border(self) -> float:
        """The one that is given."""
        found = self.at_least if self.at_least is not None else self.at_most
        assert found is not None
        return found

    def text(self, figure: str) -> str:
        """``quality_wiki >= 0.9``."""
        return f"{figure} {'>=' if self.at_least is not None else '<='} {self.border:g}"


class QualitySettings(BaseModel):
    """How often documents are taken, by buckets of a figure: the first bucket that holds a document decides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    figure: str = Field(
        min_length=1,
        description="column of the corpus's ledger: quality_<classifier>, perplexity, lang_score, or any fact",
    )
    buckets: list[Bucket] = Field(
        min_length=1, max_length=100, description="the best documents first: {at_least: 0.9, epochs: 2}, ..."
    )
    otherwise: float = Field(
        default=1.0, ge=0, le=MOST, description="how often documents that no bucket holds are taken"
    )
    unmeasured: float = Field(
        default=1.0, ge=0, le=MOST, description="how often documents without the figure are taken"
    )

    @model_validator(mode="after")
    def _in_order(self) -> QualitySettings:
        down = self.buckets[0].at_least is not None
        for one, other in pairwise(self.buckets):
            if (other.at_least is not None) != down:
                raise ValueError("buckets are all by at_least, or all by at_most")
            if other.border >= one.border if down else other.border <= one.border:
                way = "fall from bucket to bucket" if down else "rise from bucket to bucket"
                raise ValueError(f"the borders should {way}, but {other.border:g} follows {one.border:g}")
        if not any([*(bucket.epochs for bucket in self.buckets), self.otherwise, self.unmeasured]):
            raise ValueError("no document would be taken: every number of epochs is 0")
        return self

    @property
    def epochs(self) -> list[float]:
        """Of the buckets, then of the documents that none holds, then of those without the figure."""
        return [*(bucket.epochs for bucket in self.buckets), self.otherwise, self.unmeasured]

    @property
    def labels(self) -> list[str]:
        """In the order of :attr:`epochs`."""
        return [*(bucket.text(self.figure) for bucket in self.buckets), "otherwise", "unmeasured"]

    def buckets_of(self, values: ArrayLike) -> NDArray[np.int64]:
        """Position in :attr:`epochs` for each figure (NaN: not measured). Compared in float32, as ledgers hold them."""
        figures = np.asarray(values, np.float32)
        found = np.full(figures.shape, len(self.buckets), np.int64)
        for number in reversed(range(len(self.buckets))):
            bucket = self.buckets[number]
            border = np.float32(bucket.border)
            found[figures >= border if bucket.at_least is not None else figures <= border] = number
        found[np.isnan(figures)] = len(self.buckets) + 1
        return found

    def bucket_of(self, value: float) -> int:
        """The same for one figure."""
        return int(self.buckets_of(np.array([value]))[0])

    @property
    def range(self) -> tuple[float, float]:
        """Fewest and most epochs."""
        return min(self.epochs), max(self.epochs)

    @property
    def passes(self) -> int:
        """Most copies that a document may have."""
        return math.ceil(max(self.epochs))
