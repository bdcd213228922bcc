"""Settings of decontamination."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from arriero.artifacts import InputPath


class Benchmark(BaseModel):
    """A file of test items that the corpus must not hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="name of the benchmark in the report", min_length=1)
    path: InputPath = Field(
        description="JSONL, JSON, CSV, TSV or plain text (an item a line), also .gz and .zst"
    )
    fields: list[str] = Field(
        default=[],
        description="fields that make up an item's text, joined by spaces; empty: every field that holds text",
    )


class Decontamination(BaseModel):
    """Items of benchmarks in the documents, and documents' worth in the items, by normalised word n-grams."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmarks: list[Benchmark] = Field(min_length=1, description="the test items to look for")
    ngrams: list[int] = Field(
        default=[8, 13],
        min_length=1,
        description="words of an n-gram; the longest that fits an item finds it in documents, all give coverages",
    )
    min_words: int = Field(
        default=5,
        ge=1,
        description="items of fewer words are not looked for (too common); those below the shortest n-gram are"
        " looked for whole",
    )
    overlap: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of an item's n-grams that a document holds from which it is contaminated",
    )
    common: int | None = Field(
        default=None,
        ge=1,
        description="n-grams that more documents than this hold are no evidence (e.g. licence phrases); null: all are",
    )
    action: Literal["drop", "cut", "report"] = Field(
        default="drop", description="drop the document, cut the span out of it, or only report"
    )
    plant: int = Field(
        default=64,
        ge=0,
        description="benchmark items planted into made-up documents to measure recall and precision; 0: no self-test",
    )
    memory_bytes: int = Field(
        default=256 << 20, ge=1 << 20, description="bytes of rows that one task holds at most"
    )

    @field_validator("ngrams")
    @classmethod
    def _ordered(cls, ngrams: list[int]) -> list[int]:
        if any(not 2 <= n <= 64 for n in ngrams) or sorted(set(ngrams)) != ngrams:
            raise ValueError("ngrams should be 2 to 64 words, each once, the shortest first")
        return ngrams

    @model_validator(mode="after")
    def _unique_names(self) -> Decontamination:
        names = [benchmark.name for benchmark in self.benchmarks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two benchmarks have the name '{twice[0]}'")
        return self
