"""Settings of the stage ``evaluate``."""

from __future__ import annotations

from pydantic import Field

from arriero.artifacts import InputPath
from arriero.stage import StageSettings


class EvaluateSettings(StageSettings):
    """What is measured, on how much, against what."""

    split: str = Field(
        default="validation", description="split of the tokens that bits per byte are taken on"
    )
    max_documents: int = Field(
        default=1000, ge=0, description="documents scored, spread over the split; 0 = all"
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        description="tokens scored by each window of a long document; by default half the context",
    )
    ngram: bool = Field(
        default=True, description="set an interpolated Kneser-Ney n-gram model beside the models"
    )
    ngram_order: int = Field(default=5, ge=2, le=7, description="order of the n-gram model")
    unigram: bool = Field(default=True, description="set a unigram model beside the models")
    ngram_tokens: int = Field(
        default=20_000_000, ge=0, description="most training tokens the n-gram models are fitted on; 0 = all"
    )
    conversations: list[InputPath] = Field(
        default=[], description="JSONL files whose held-out conversations give the answer loss"
    )
    preferences: list[InputPath] = Field(
        default=[], description="JSONL files whose held-out pairs give the preference accuracy"
    )
    holdout_share: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="held-out share of these files; the same as the training stages'",
    )
    holdout_seed: int = Field(
        default=0, ge=0, lt=2**31, description="seed of that split; the same as the training stages'"
    )
    system_prompt: str = Field(
        default="", description="system message for conversations that have none; the same as the sft stage's"
    )
    max_items: int = Field(
        default=0, ge=0, description="most held-out conversations, and most pairs; 0 = all"
    )
    prompts: list[str] = Field(default=[], description="questions that every model answers, for the report")
    sample_tokens: int = Field(default=64, ge=1, description="most tokens of such an answer")
    baseline: str | None = Field(
        default=None, description="name of the model that the others are compared with; by default the first"
    )
    bootstrap_samples: int = Field(default=2000, ge=100, le=1_000_000, description="draws for each interval")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="share of the draws inside an interval")
