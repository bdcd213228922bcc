"""The block ``health`` of a training stage's settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class HealthSettings(BaseModel):
    """When a step is not trusted, and what is done then. Each rule is switched off by 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outlier_sigma: float = Field(
        default=6.0,
        ge=0,
        description="a step is skipped when its loss or gradient norm lies so many standard deviations (and a tenth of the "
        "mean, of the norm twice the mean) above the mean of the steps before it; 0 = never",
    )
    window: int = Field(default=128, ge=8, description="steps that the mean and the deviation are taken from")
    most_skips: int = Field(
        default=16,
        ge=1,
        description="steps skipped one after the other, for want of a finite loss, before training stops with an error",
    )
    spike_steps: int = Field(
        default=8,
        ge=0,
        description="outliers one after the other that make a spike: training goes back to the checkpoint before it "
        "and passes over the data in between; 0 = never. A gradient alone that stays large is taken as it is then",
    )
    most_rollbacks: int = Field(
        default=3, ge=0, description="spikes in a run before training stops with an error"
    )
    recompute_every: int = Field(
        default=500,
        ge=0,
        description="steps between checks for silent data corruption: one micro-batch is computed twice and its "
        "gradient compared bit by bit; 0 = never",
    )
    hang_seconds: float = Field(
        default=1800,
        ge=0,
        description="seconds without progress after which the watchdog names the rank that hangs and writes down where; "
        "under torchrun it ends the process too, so that the group starts again; 0 = never",
    )
