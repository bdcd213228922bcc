"""The settings that every training stage shares: length, batch, schedule, optimizer, precision, checkpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from arriero.stage import StageSettings
from arriero.training.duration import DurationText, IntervalText, WarmupText
from arriero.training.health.settings import HealthSettings

Schedule = Literal["cosine", "linear", "constant", "inverse_sqrt"]


class TrainSettings(StageSettings):
    """Base of the settings of ``pretrain``, ``sft`` and ``dpo``; these override defaults and add their own."""

    duration: DurationText = Field(
        default="1 epochs",
        description="length of the run: '2e6 tokens', '3 epochs', '500 steps', '100 cpu-seconds' or '1 h'",
    )
    batch_size: int = Field(default=16, ge=1, description="sequences (pairs, for dpo) an optimizer step")
    micro_batch_size: int = Field(
        default=0,
        ge=0,
        description="sequences at once; 0 = the stage's own choice; never changes the gradient",
    )
    learning_rate: float = Field(default=1e-3, gt=0, lt=10, description="peak learning rate")
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1, description="last learning rate over the peak")
    warmup: WarmupText = Field(
        default="2 %", description="linear warm-up: a share of the run ('2 %') or '100 steps'"
    )
    schedule: Schedule = Field(
        default="cosine",
        description="course of the learning rate after the warm-up; inverse_sqrt falls with 1/sqrt(step), without end",
    )
    weight_decay: float = Field(
        default=0.1, ge=0, lt=10, description="decoupled weight decay, of matrices only"
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's decay of the mean gradient")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's decay of the mean squared gradient")
    eps: float = Field(default=1e-8, gt=0, lt=1, description="AdamW's epsilon")
    grad_clip: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0 = no clipping")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="arithmetic of the products: auto = bf16 where the device profile says it pays",
    )
    eval_every: int = Field(
        default=0,
        ge=0,
        description="steps between held-out evaluations; 0 = only before the first and after the last",
    )
    eval_points: int = Field(
        default=0,
        ge=0,
        description="held-out evaluations spread evenly over the run, in its own measure (tokens or seconds)",
    )
    eval_samples: int = Field(
        default=256, ge=0, description="held-out samples scored at each evaluation; 0 = all"
    )
    log_every: int = Field(default=10, ge=1, description="steps between lines of metrics.jsonl")
    checkpoint_every: IntervalText = Field(
        default="30 seconds",
        description="time or steps between checkpoints: '30 seconds', '5 minutes', '200 steps'",
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints kept while training")
    health: HealthSettings = Field(
        default_factory=HealthSettings,
        description="what is done about bad steps, spikes, silent data corruption and hangs",
    )
    threads: int = Field(
        default=0, ge=0, le=4096, description="processor threads; 0 = one for each usable core"
    )

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> TrainSettings:
        if self.micro_batch_size > self.batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} is more than batch_size {self.batch_size}; "
                "a micro-batch is a part of the batch"
            )
        return self
