"""The block ``parallel`` of a training stage's settings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ParallelSettings(BaseModel):
    """How the processes that torchrun starts divide the work; one process alone takes no notice of it.

    There are data x tensor x context x pipeline processes. None of this changes the result but for rounding.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: int = Field(
        default=0,
        ge=0,
        description="processes that the samples of a step are dealt to; 0 = all that are left",
    )
    shard: Literal["full", "none"] = Field(
        default="full",
        description="full = weights, gradients and optimizer state are cut over the data and context processes "
        "(FSDP2); none = each of them holds all",
    )
    replicas: int = Field(
        default=1,
        ge=1,
        description="with shard full: copies of the weights, each cut over data / replicas processes (HSDP)",
    )
    tensor: int = Field(
        default=1,
        ge=1,
        description="processes that attention heads, feed-forward and vocabulary are cut over",
    )
    sequence: bool = Field(
        default=True,
        description="with tensor: norms and residual stream are cut along the sequence over the same processes",
    )
    context: int = Field(
        default=1, ge=1, description="processes that each sequence is cut over; keys and values are gathered"
    )
    pipeline: int = Field(
        default=1, ge=1, description="processes that the blocks are cut over, in their order"
    )
    microbatches: int = Field(
        default=0,
        ge=0,
        description="with pipeline: parts of a step that follow one another through the stages; 0 = as many as "
        "micro_batch_size makes, at least one for each stage",
    )
    schedule: Literal["1f1b", "gpipe"] = Field(
        default="1f1b",
        description="order of the pipeline's work: 1f1b keeps fewer activations, gpipe does all forward passes first",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> ParallelSettings:
        if self.replicas > 1 and self.shard == "none":
            raise ValueError(
                "replicas are for shard full; with shard none every data process is a copy already"
            )
        if self.data and self.data % self.replicas:
            raise ValueError(f"data {self.data} is not a multiple of replicas {self.replicas}")
        if self.microbatches and self.pipeline == 1:
            raise ValueError("microbatches are for a pipeline; without one set micro_batch_size")
        if self.microbatches and self.microbatches < self.pipeline:
            raise ValueError(
                f"microbatches {self.microbatches} are fewer than the {self.pipeline} stages of the pipeline, "
                "which would never all work; give at least as many"
            )
        return self

    @property
    def model_ranks(self) -> int:
        """Processes that work on the same samples."""
        return self.tensor * self.context * self.pipeline
