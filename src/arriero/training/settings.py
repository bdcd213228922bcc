"""The settings that every training stage shares: length, batch, schedule, optimizer, precision, checkpoints."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from arriero.stage import StageSettings
from arriero.training.duration import Duration, DurationText, IntervalText, Warmup, WarmupText
from arriero.training.health.settings import HealthSettings
from arriero.training.parallel.settings import ParallelSettings

Schedule = Literal["cosine", "linear", "constant", "inverse_sqrt", "wsd"]


class TrainSettings(StageSettings):
    """Base of the settings of ``pretrain``, ``sft`` and ``dpo``; these override defaults and add their own."""

    duration: DurationText = Field(
        default="1 epochs",
        description="length of the run: '2e6 tokens', '3 epochs', '500 steps', '100 cpu-seconds' or '1 h'",
    )
    batch_size: int = Field(default=16, ge=1, description="sequences (pairs, for dpo) an optimizer step")
    batch_warmup: WarmupText = Field(
        default="0",
        description="the batch grows to its size: over a share of the run ('5 %') or '1e6 tokens'; 0 = no growth",
    )
    batch_size_start: int = Field(
        default=0, ge=0, description="batch that batch_warmup begins with; 0 = an eighth of batch_size"
    )
    micro_batch_size: int = Field(
        default=0,
        ge=0,
        description="sequences at once; 0 = the stage's own choice; never changes the gradient",
    )
    optimizer: Literal["adamw", "adafactor", "muon"] = Field(
        default="adamw",
        description="adafactor keeps a fraction of the state (and wants a learning rate of about 1e-2, relative to each "
        "weight's size); muon for the hidden matrices, with adamw for the rest",
    )
    learning_rate: float = Field(default=1e-3, gt=0, lt=10, description="peak learning rate")
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1, description="last learning rate over the peak")
    warmup: WarmupText = Field(
        default="2 %", description="linear warm-up: a share of the run ('2 %'), '100 steps' or '1e6 tokens'"
    )
    schedule: Schedule = Field(
        default="cosine",
        description="course of the learning rate after the warm-up; inverse_sqrt falls with 1/sqrt(step), without end; "
        "wsd holds it and falls at the end",
    )
    decay_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="wsd: the last share of the run, in which the learning rate falls",
    )
    decay_form: Literal["1-sqrt", "linear"] = Field(
        default="1-sqrt", description="wsd: how it falls, with 1 - sqrt(time) or evenly"
    )
    weight_decay: float = Field(
        default=0.1, ge=0, lt=10, description="decoupled weight decay, of linear layers' matrices only"
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's decay of the mean gradient")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's decay of the mean squared gradient")
    eps: float = Field(default=1e-8, gt=0, lt=1, description="AdamW's epsilon")
    grad_clip: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0 = no clipping")
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="a running average of the weights, e.g. 0.999: held-out scores and the model written are the "
        "average's; 0 = none",
    )
    precision: Literal["auto", "fp32", "bf16", "fp8"] = Field(
        default="auto",
        description="arithmetic of the products, over weights in fp32: auto = bf16 where the device profile says it "
        "pays; fp8 = the blocks' products in 8 bits (Hopper GPUs; checked against torch's CPU kernel, never timed)",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where the model is trained: auto = on the NVIDIA GPU where there is one"
    )
    activation_checkpointing: Literal["none", "selective", "full"] = Field(
        default="none",
        description="less memory for more arithmetic, with the same result: selective works out the wide "
        "feed-forward's products again, full whole blocks (a third more)",
    )
    compile: bool = Field(
        default=False,
        description="torch.compile the blocks: a minute or so at the start for somewhat faster steps; on a CPU it needs "
        "a C++ compiler",
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
    keep_best: int = Field(
        default=0, ge=0, description="checkpoints with the lowest held-out loss kept beside the newest"
    )
    keep_every: int = Field(
        default=0,
        ge=0,
        description="a checkpoint every so many steps stays, and its weights come with the model; 0 = none",
    )
    async_checkpoints: bool = Field(
        default=True,
        description="training waits only until the state is copied; what follows is done in the background",
    )
    final_weights: Literal["last", "best"] = Field(
        default="last",
        description="the model written: the last weights, or those of the lowest held-out loss (eval_every)",
    )
    profile: bool = Field(
        default=False,
        description="record three early steps with torch's profiler: a trace and a summary in logs/profile",
    )
    parallel: ParallelSettings = Field(
        default_factory=ParallelSettings,
        description="how the processes that torchrun starts divide the work",
        json_schema_extra={"in_key": False},
    )
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

    @model_validator(mode="after")
    def _compiles(self) -> TrainSettings:
        if self.compile and self.activation_checkpointing == "selective":
            raise ValueError(
                "compile with activation_checkpointing selective is left uncompiled by torch; take full or none"
            )
        return self

    @model_validator(mode="after")
    def _batch_grows(self) -> TrainSettings:
        growth = Warmup.parse(self.batch_warmup)
        if growth.amount and growth.unit == "steps":
            raise ValueError(
                f"batch_warmup '{self.batch_warmup}': steps depend on the batch; say '5 %' or '1e6 tokens'"
            )
        if self.batch_size_start and not growth.amount:
            raise ValueError("batch_size_start is for a batch that grows: give batch_warmup too, e.g. '5 %'")
        if self.batch_size_start > self.batch_size:
            raise ValueError(
                f"batch_size_start {self.batch_size_start} is more than batch_size {self.batch_size}; "
                "a batch grows from the first to the second"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainSettings:
        if self.schedule != "wsd":
            for name in ("decay_share", "decay_form"):
                self._refuse_changed(name, f"is for schedule wsd, not {self.schedule}")
        elif Warmup.parse(self.warmup).share + self.decay_share > 1 + 1e-9:
            raise ValueError(
                f"warmup '{self.warmup}' and decay_share {self.decay_share} are more than the whole run together"
            )
        if self.optimizer == "adafactor":
            for name in ("beta1", "beta2", "eps"):
                self._refuse_changed(name, "is AdamW's; adafactor has no such setting")
        return self

    @model_validator(mode="after")
    def _best_is_kept(self) -> TrainSettings:
        wanted = self.final_weights == "best" or self.keep_best
        if wanted and not (self.eval_every or self.eval_points):
            name = "final_weights best" if self.final_weights == "best" else f"keep_best {self.keep_best}"
            raise ValueError(
                f"{name} goes by the held-out loss during the run: give eval_every or eval_points"
            )
        return self

    def _refuse_changed(self, name: str, why: str) -> None:
        """Raises:
        ValueError: the field has another value than its default.
        """
        if getattr(self, name) != type(self).model_fields[name].default:
            raise ValueError(f"{name} {why}")

    def for_model(self, n_parameters: int) -> Self:
        """The same settings with a duration of '20 x parameters' told in tokens (:meth:`Duration.for_model`)."""
        return self.model_copy(
            update={"duration": str(Duration.parse(self.duration).for_model(n_parameters))}
        )
