"""Settings of the steps that remove what is there twice."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from arriero.artifacts import InputTree

Survivor = Literal["longest", "newest", "quality", "first"]


class DuplicateLines(BaseModel):
    """Lines (or paragraphs) that the corpus holds again and again are cut out of the documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["cut", "report"] = Field(
        default="cut", description="cut the spans out of the documents, or only count them"
    )
    more_than: int = Field(
        default=1, ge=1, description="documents that may hold a line before it counts as repeated"
    )
    keep: int = Field(
        default=1,
        ge=0,
        description="first documents, in canonical order, that keep a repeated line; 0: none does",
    )
    min_characters: int = Field(
        default=30, ge=0, description="lines of fewer characters are never cut: headings, braces, list marks"
    )
    min_words: int = Field(default=3, ge=0, description="lines of fewer words are never cut")
    drop_above: float | None = Field(
        default=0.9,
        gt=0,
        le=1,
        description="a document that loses more than this share of its characters is dropped whole;"
        " null: only one of which nothing is left",
    )

    @model_validator(mode="after")
    def _consistent(self) -> DuplicateLines:
        if self.keep > self.more_than:
            raise ValueError(
                f"keep: {self.keep} is over more_than: {self.more_than}: nothing would be cut from lines seen"
                f" {self.more_than + 1} to {self.keep} times; set more_than to at least {self.keep}"
            )
        return self


class DuplicateSpans(BaseModel):
    """Spans of words that stood in the corpus before (Lee et al. 2022) are cut; the first occurrence stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: int = Field(default=50, ge=8, le=4096, description="shortest repeated span, in words")
    action: Literal["cut", "report"] = Field(default="cut", description="cut the spans, or only count them")
    method: Literal["auto", "suffix_array", "windows"] = Field(
        default="auto",
        description="suffix_array: all words in memory; windows: hashes of windows in exchange files, memory flat;"
        " both find the same spans; auto: suffix_array where the corpus fits memory_bytes",
    )
    drop_above: float | None = Field(
        default=0.9,
        gt=0,
        le=1,
        description="a document that loses more than this share of its characters is dropped whole;"
        " null: only one of which nothing is left",
    )


class DuplicateBooks(BaseModel):
    """Long documents that are nearly contained in a longer one, e.g. two editions of a book; the longer one stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    overlap: float = Field(
        default=0.9, gt=0, le=1, description="share of its shingles that a dropped book has in common"
    )
    min_words: int = Field(default=10_000, ge=100, description="documents of fewer words are not books")
    sources: list[str] = Field(default=[], description="names of the sources that hold books; empty: all")


class SemanticDuplicates(BaseModel):
    """Documents that say the same in other words (SemDeDup, Abbas et al. 2023)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    similarity: float = Field(default=0.95, gt=0, le=1, description="cosine from which a document is dropped")
    embedder: Literal["tfidf", "model"] = Field(
        default="tfidf", description="tfidf: hashed word weights, projected; model: an encoder from a folder"
    )
    model: InputTree | None = Field(
        default=None, description="folder of a sentence encoder, e.g. MiniLM; needed by embedder: model"
    )
    dimensions: int = Field(default=256, ge=16, le=1024, description="numbers of a tfidf vector")
    clusters: int | None = Field(
        default=None,
        ge=1,
        description="k-means clusters; null: one for 1,000 documents, at most the root of their number",
    )
    iterations: int = Field(default=10, ge=1, le=1000, description="most rounds of k-means")
    sample: int = Field(default=100_000, ge=100, description="documents that k-means is fitted on")
    max_words: int = Field(default=2_000, ge=10, description="words of a document that are embedded")

    @model_validator(mode="after")
    def _consistent(self) -> SemanticDuplicates:
        if (self.embedder == "model") != (self.model is not None):
            raise ValueError(
                "embedder: model and the setting model go together: give both, or neither for tfidf"
            )
        return self


class Dedup(BaseModel):
    """De-duplication over all sources, in this order: exact, near, books, semantic, lines, paragraphs, substring.

    Each step sees what those before it left, so that the first occurrence of a line is never in a dropped document.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exact: bool = Field(default=True, description="drop texts that are equal after normalisation")
    threshold: float | None = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Jaccard similarity from which texts are near-duplicates; null: not looked for",
    )
    shingle_words: int = Field(default=5, ge=1, le=32, description="words in a shingle")
    bands: int = Field(
        default=14, ge=1, le=256, description="MinHash bands; one shared band makes a candidate"
    )
    rows: int = Field(default=8, ge=1, le=64, description="MinHash values in a band")
    groupings: int = Field(
        default=2,
        ge=1,
        le=8,
        description="ways in which the same MinHash values are put into bands: 1 finds 92 % of the pairs at Jaccard"
        " 0.8 with 14 x 8, 2 finds more for twice the exchange files",
    )
    survivor: Survivor = Field(
        default="longest",
        description="which document of a cluster stays; ties: the first by part name and row",
    )
    quality: str | None = Field(
        default=None,
        description="column of the ledger that survivor: quality compares, e.g. m_quality_wikipedia; greater stays",
    )
    lines: DuplicateLines | None = Field(default=None, description="lines seen before; null: left alone")
    paragraphs: DuplicateLines | None = Field(
        default=None, description="paragraphs seen before; null: left alone"
    )
    substring: DuplicateSpans | None = Field(
        default=None, description="spans of words seen before; null: left alone"
    )
    books: DuplicateBooks | None = Field(
        default=None, description="books contained in others; null: not looked for"
    )
    semantic: SemanticDuplicates | None = Field(
        default=None, description="duplicates by meaning; null: not looked for"
    )
    max_cluster: int = Field(
        default=1000, ge=2, description="a larger cluster of duplicates raises an alarm in the report"
    )
    max_source_loss: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="a source that loses more than this share of its documents raises an alarm in the report",
    )
    memory_bytes: int = Field(
        default=256 << 20,
        ge=1 << 20,
        description="bytes of rows that one task holds at most, by which global steps are partitioned",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Dedup:
        if (self.survivor == "quality") != (self.quality is not None):
            raise ValueError("survivor: quality and the setting quality (a column) go together")
        return self
