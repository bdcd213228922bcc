"""The one training loop. An objective plugs in; a stage only prepares the model and the data.

A step: take the next samples, run their micro-batches forward and backward with the loss sum divided by the
weight of the whole step, check, clip, update. Everything that decides on the next step is in the checkpoint,
so a run that was killed at any moment ends with the same bits as one that was not (with a budget of seconds: goes on
with what is left of it, see budget.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from arriero.artifacts.commit import write_json_atomic
from arriero.artifacts.hashing import sha256_json
from arriero.cost.allocator import keep_freed_memory
from arriero.errors import ArrieroError, Interrupted
from arriero.stage import Context
from arriero.training import randomness
from arriero.training.batches import SampleOrder, SequentialOrder
from arriero.training.budget import budget_of
from arriero.training.checkpoint import CheckpointStore
from arriero.training.duration import Interval
from arriero.training.evaluation import evaluate, evaluation_indices
from arriero.training.metrics import Totals, rewind_metrics
from arriero.training.objectives.base import Batch, Objective
from arriero.training.optimizer import clip_gradients, make_optimizer, set_learning_rate
from arriero.training.precision import Arithmetic, use_threads
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate

TOKENS_AT_ONCE = 4096
"""Tokens of a micro-batch where the settings leave its size open: enough to keep the cores busy (half of it is
4 % slower on two cores), and a bound on the memory of long batches."""


class FlopCount(Protocol):
    """Arithmetic of one batch, in a training step and in an evaluation."""

    def training(self, batch: Batch) -> float: ...

    def evaluation(self, batch: Batch) -> float: ...


@dataclass(frozen=True)
class TrainResult:
    """What a run did, over all its resumes.

    Attributes:
        steps, samples: of the whole run.
        totals: tokens, seconds, FLOPs, held-out evaluations, loss curve.
        arithmetic: precision and threads it ran with.
    """

    steps: int
    samples: int
    totals: Totals
    arithmetic: Arithmetic


def micro_batch_size(settings: TrainSettings, tokens_per_sample: float) -> int:
    """The settings' micro-batch size, or the number of samples that make about 4096 tokens."""
    if settings.micro_batch_size:
        return settings.micro_batch_size
    return max(1, min(settings.batch_size, int(TOKENS_AT_ONCE // max(1.0, tokens_per_sample))))


def train(
    model: torch.nn.Module,
    objective: Objective,
    settings: TrainSettings,
    context: Context,
    *,
    arithmetic: Arithmetic,
    heldout: Objective | None = None,
    flops: FlopCount | None = None,
) -> TrainResult:
    """Train ``model`` in place, resuming from ``context.state`` when there is something to resume.

    Args:
        model: its parameters that require gradients are trained, in fp32.
        objective: loss and training samples.
        arithmetic: precision and threads (``kept_arithmetic``).
        heldout: an objective over other samples, scored before, at intervals and after.
        flops: arithmetic of a batch, for ``context.count_flops``.

    Raises:
        ArrieroError: no samples, loss or gradient not finite, first-step invariant of the objective broken.
        Interrupted: the user asked to stop; the state is saved.
    """
    if len(objective) == 0:
        raise ArrieroError("there is nothing to train on: the training set is empty")
    keep_freed_memory()
    with use_threads(arithmetic.threads):
        return _Run(model, objective, settings, context, arithmetic, heldout, flops).go()


class _Run:
    def __init__(
        self,
        model: torch.nn.Module,
        objective: Objective,
        settings: TrainSettings,
        context: Context,
        arithmetic: Arithmetic,
        heldout: Objective | None,
        flops: FlopCount | None,
    ) -> None:
        self.model = model
        self.objective = objective
        self.settings = settings
        self.context = context
        self.arithmetic = arithmetic
        self.heldout = heldout if heldout is not None and len(heldout) else None
        self.heldout_indices = (
            evaluation_indices(heldout, settings.eval_samples) if heldout is not None else []
        )
        self.flops = flops
        self.device = next(model.parameters()).device
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.parameters = list(self.trained.values())
        self.optimizer = make_optimizer(self.parameters, settings)
        self.budget = budget_of(settings, objective)
        self.micro_batch = micro_batch_size(settings, objective.tokens_per_sample())
        n_samples = len(objective)
        self.order = SequentialOrder(n_samples) if objective.ordered else SampleOrder(n_samples, context.seed)
        self.totals = Totals()
        self.store = CheckpointStore(context.state, settings.keep_checkpoints, context.say)
        self.interval = Interval.parse(settings.checkpoint_every)
        self.saved_step, self.saved_at, self.counted_flops = 0, time.monotonic(), 0.0
        self.since = time.perf_counter()
        self.grad_norm = 0.0

    # ------------------------------------------------------------------------------- the whole run

    def go(self) -> TrainResult:
        randomness.seed_all(self.context.seed)
        self.resume()
        self.model.train()
        self.evaluate_when_due()
        while not self.budget.finished(self.totals):
            if self.context.stop_requested():
                self.stop()
            self.step()
            self.evaluate_when_due()
            if self.interval.due(self.totals.step - self.saved_step, time.monotonic() - self.saved_at):
                self.save()
        self.save()
        self.count_flops()  # also where a full disk kept the last checkpoint from being written
        self.model.eval()
        return TrainResult(self.totals.step, self.totals.samples, self.totals, self.arithmetic)

    # ------------------------------------------------------------------------------- one step

    def step(self) -> None:
        started, cpu_started = time.perf_counter(), time.process_time()
        stop = self.budget.next_position(self.totals.samples)
        indices = self.order.take(self.totals.samples, stop)
        parts = self.objective.parts(indices, self.micro_batch)
        batches = [self.objective.batch(part).to(self.device) for part in parts]
        weight = sum(self.objective.weight(batch) for batch in batches)
        if not weight:
            raise ArrieroError(
                f"step {self.totals.step + 1}: none of its samples {indices} has a token to learn from"
            )
        found = accumulate(self.model, self.objective, batches, weight, self.arithmetic.precision)
        sums = {name: float(value) for name, value in found.items()}
        means = {name: value / weight for name, value in sums.items()}
        self.grad_norm = float(clip_gradients(self.parameters, self.settings.grad_clip))
        self.check(means, indices)
        rate = self.budget.learning_rate(self.totals)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        taken = time.perf_counter() - started, time.process_time() - cpu_started
        self.account(batches, sums, weight, stop, taken)
        self.report(means["loss"], rate)

    def check(self, means: dict[str, float], indices: list[int]) -> None:
        """Stop before an update that would spoil the weights.

        Raises:
            ArrieroError: loss or gradient is not finite, or the first step breaks the objective's invariant.
        """
        if math.isfinite(means["loss"]) and math.isfinite(self.grad_norm):
            fault = (
                self.objective.first_step_fault(means, self.arithmetic.precision)
                if self.totals.step == 0
                else None
            )
            if fault:
                raise ArrieroError(fault)
            return
        step = self.totals.step + 1
        path = self.context.state / f"not-finite-step-{step}.json"
        worst = {
            name: {"largest_weight": float(p.detach().abs().max()), "gradient_finite": _finite(p.grad)}
            for name, p in self.trained.items()
        }
        write_json_atomic(
            path,
            {
                "step": step, "loss": repr(means["loss"]), "grad_norm": repr(self.grad_norm), "samples": indices,
                "learning_rate": self.budget.learning_rate(self.totals), "parameters": worst,
            },
        )  # fmt: skip
        raise ArrieroError(
            f"step {step}: the loss is {means['loss']:g} and the gradient's norm {self.grad_norm:g}, so training "
            f"stopped before the weights took harm; try a lower learning_rate or precision fp32 (details: {path})"
        )

    def account(
        self,
        batches: Sequence[Batch],
        sums: dict[str, float],
        weight: int,
        samples: int,
        taken: tuple[float, float],
    ) -> None:
        """``samples``: position after the step; ``taken``: its seconds of the clock and of the processor."""
        totals = self.totals
        tokens = sum(batch.tokens for batch in batches)
        totals.add_to_curve(self.budget.curve_index(totals), sums["loss"], weight)
        totals.window.add(weight, sums, tokens, taken[0])
        totals.step += 1
        totals.samples = samples
        totals.tokens += tokens
        totals.train_seconds += taken[0]
        totals.cpu_seconds += taken[1]
        if self.flops is not None:
            done = sum(self.flops.training(batch) for batch in batches)
            totals.train_flops += done
            totals.flops += done

    def report(self, loss: float, rate: float) -> None:
        """Progress every step; a line of the log, with means since the last one, every ``log_every`` steps."""
        totals, window = self.totals, self.totals.window
        speed = window.tokens / max(1e-9, window.seconds)
        self.context.progress(*self.budget.progress(totals), loss=loss, tokens_per_s=speed)
        if totals.step % self.settings.log_every and not self.budget.finished(totals):
            return
        self.context.log(
            step=totals.step, **window.means(), lr=rate, grad_norm=self.grad_norm, tokens_seen=totals.tokens,
            tokens_per_s=round(speed, 1), seconds=round(self.elapsed(), 3), cpu_seconds=round(totals.cpu_seconds, 3),
        )  # fmt: skip
        totals.window = type(window)()

    # ------------------------------------------------------------------------------- held-out loss

    def evaluate_when_due(self) -> None:
        if self.heldout is not None and self.budget.evaluation_due(self.totals):
            self.evaluate(self.heldout)

    def evaluate(self, heldout: Objective) -> None:
        means = evaluate(
            self.model, heldout, self.heldout_indices,
            micro_batch=micro_batch_size(self.settings, heldout.tokens_per_sample()),
            precision=self.arithmetic.precision, each=self.during_evaluation,
        )  # fmt: skip
        totals = self.totals
        spent = {"cpu_seconds": round(totals.cpu_seconds, 3), "train_seconds": round(totals.train_seconds, 3)}
        totals.evaluations.append({"step": totals.step, "tokens": totals.tokens, **spent, **means})
        figures = {f"heldout_{name}": value for name, value in means.items() if name != "weight"}
        self.context.log(step=totals.step, tokens_seen=totals.tokens, **spent, **figures)

    def during_evaluation(self, batch: Batch) -> None:
        if self.flops is not None:
            self.totals.flops += self.flops.evaluation(batch)
        if self.context.stop_requested():
            self.stop()

    # ------------------------------------------------------------------------------- state

    def elapsed(self) -> float:
        """Seconds of the whole run so far, resumes included."""
        now = time.perf_counter()
        self.totals.seconds += now - self.since
        self.since = now
        return self.totals.seconds

    def fingerprint(self) -> str:
        """A checkpoint fits when these are the same."""
        shapes = {name: list(p.shape) for name, p in self.trained.items()}
        settings = self.settings.model_dump(mode="json")
        return sha256_json(
            [settings, self.context.seed, *self.budget.identity(), len(self.objective), shapes]
        )

    def save(self) -> bool:
        """Write a checkpoint; only then count the arithmetic, so that repeated steps are not counted twice."""
        self.elapsed()
        tensors = {f"model.{name}": p for name, p in self.trained.items()}
        for name, p in self.trained.items():
            tensors |= {f"optimizer.{key}.{name}": value for key, value in self.optimizer.state[p].items()}
        tensors |= {f"carried.{name}": value for name, value in self.objective.carried().items()}
        generators, others = randomness.capture(self.device)
        state = {"fingerprint": self.fingerprint(), "totals": self.totals.dump(), "random": others}
        saved = self.store.save(self.totals.step, {**tensors, **generators}, state)
        self.saved_step, self.saved_at = self.totals.step, time.monotonic()
        if saved:
            self.count_flops()
        return saved

    def count_flops(self) -> None:
        self.context.count_flops(self.totals.flops - self.counted_flops)
        self.counted_flops = self.totals.flops

    @torch.no_grad()
    def resume(self) -> None:
        fingerprint = self.fingerprint()
        found = self.store.latest(lambda state: state.get("fingerprint") == fingerprint)
        rewind_metrics(self.context.state, found.step if found else -1)
        if found is None:
            return
        for name, p in self.trained.items():
            p.copy_(found.tensors[f"model.{name}"])
            for key, value in self.optimizer.state[p].items():
                value.copy_(found.tensors[f"optimizer.{key}.{name}"])
        held = {n.removeprefix("carried."): t for n, t in found.tensors.items() if n.startswith("carried.")}
        self.objective.carry({name: tensor.to(self.device) for name, tensor in held.items()})
        randomness.restore(found.tensors, found.state["random"], self.device)
        self.totals = Totals.load(found.state["totals"])
        self.saved_step, self.counted_flops = found.step, self.totals.flops
        self.context.say(f"going on from {self.place()}")

    def stop(self) -> None:
        """Save and leave.

        Raises:
            Interrupted: always.
        """
        kept = self.save()
        note = "" if kept else " (it could not be saved, so it goes on from the checkpoint before)"
        raise Interrupted(f"stopped at {self.place()}{note}; the same command goes on from there")

    def place(self) -> str:
        """ "step 7 of 30", or "step 7 (12 of 60 CPU seconds)"."""
        done, of, unit = self.budget.progress(self.totals)
        if unit == "steps":
            return f"step {done:,} of {of:,}"
        return f"step {self.totals.step:,} ({done:,.1f} of {of:,.1f} {unit})"


def _finite(tensor: torch.Tensor | None) -> bool:
    return tensor is None or bool(torch.isfinite(tensor).all())
