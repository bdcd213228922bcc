"""The one training loop. An objective plugs in; a stage only prepares the model and the data.

A step: take the next samples (feed.py), run their micro-batches forward and backward with the loss sum divided by the
weight of the whole step (step.py), clip, judge (health/), update. Everything that decides on the next step is in the
checkpoint (saving.py), so a run that was killed at any moment ends with the same bits as one that was not (with a
budget of seconds: goes on with what is left of it, see budget.py).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Protocol

import torch

from arriero.artifacts.hashing import sha256_json
from arriero.cost.allocator import keep_freed_memory
from arriero.errors import ArrieroError, Interrupted
from arriero.stage import Context
from arriero.training import randomness
from arriero.training.budget import budget_of
from arriero.training.feed import Feed, StepData
from arriero.training.guard import refuse_to_go_on
from arriero.training.health.corruption import Work, accumulate_checked
from arriero.training.health.outliers import OutlierRule, Verdict
from arriero.training.health.watchdog import Watchdog
from arriero.training.heldout import HeldOut
from arriero.training.metrics import Totals
from arriero.training.micro_batch import micro_batch_size
from arriero.training.objectives.base import Batch, Objective
from arriero.training.optimizer import clip_gradients, make_optimizer, set_learning_rate
from arriero.training.precision import Arithmetic, use_threads
from arriero.training.saving import Saver
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate


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
        self.flops = flops
        device = next(model.parameters()).device
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.parameters = list(self.trained.values())
        self.optimizer = make_optimizer(self.parameters, settings)
        self.budget = budget_of(settings, objective)
        micro_batch = micro_batch_size(settings, objective.tokens_per_sample())
        self.feed = Feed(objective, context.seed, micro_batch, device)
        self.heldout = HeldOut(model, heldout, settings, arithmetic.precision, self.during_evaluation)
        self.saver = Saver(
            context, settings, self.trained, self.optimizer, objective, device, self.fingerprint
        )
        self.totals = Totals()
        self.rule = OutlierRule(settings.health, self.totals.history)
        self.watchdog = Watchdog(context.state, settings.health.hang_seconds, context.say)
        self.counted_flops = 0.0
        self.since = time.perf_counter()

    # ------------------------------------------------------------------------------- the whole run

    def go(self) -> TrainResult:
        randomness.seed_all(self.context.seed)
        with self.watchdog:
            self.resume()
            self.model.train()
            self.evaluate_when_due()
            while not self.budget.finished(self.totals):
                if self.context.stop_requested():
                    self.stop()
                self.watchdog.beat(f"step {self.totals.step + 1}")
                self.step()
                self.evaluate_when_due()
                if self.saver.due(self.totals.step):
                    self.save()
            self.save()
        self.count_flops()  # also where a full disk kept the last checkpoint from being written
        self.model.eval()
        return TrainResult(self.totals.step, self.totals.samples, self.totals, self.arithmetic)

    # ------------------------------------------------------------------------------- one step

    def step(self) -> None:
        started, cpu_started = time.perf_counter(), time.process_time()
        data = self.data()
        found = self.gradient(data)
        sums = {name: float(value) for name, value in found.items()}
        loss, grad_norm = (
            sums["loss"] / data.weight,
            float(clip_gradients(self.parameters, self.settings.grad_clip)),
        )
        rate = self.budget.learning_rate(self.totals)
        self.check_first(data, sums)
        verdict = self.rule.judge(self.totals.step + 1, loss, grad_norm)
        if verdict.decision == "take":
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
        elif verdict.decision == "stop":
            raise self.bad_step(verdict.why, data, loss, grad_norm)
        self.optimizer.zero_grad(set_to_none=True)
        if verdict.decision == "roll back" and self.roll_back(verdict, data):
            return
        taken = time.perf_counter() - started, time.process_time() - cpu_started
        self.account(data, sums, taken, verdict)
        self.report(loss, rate, grad_norm)

    def data(self) -> StepData:
        """The samples of the coming step.

        Raises:
            ArrieroError: there is nothing in them to learn from.
        """
        totals = self.totals
        start = totals.samples + totals.passed_over
        data = self.feed.step(start, self.budget.next_position(totals.samples) + totals.passed_over)
        if not data.weight:
            raise ArrieroError(
                f"step {totals.step + 1}: none of its samples {data.indices} has a token to learn from"
            )
        return data

    def gradient(self, data: StepData) -> dict[str, torch.Tensor]:
        """The step's gradient and its sums; every so often with a check of the machine."""
        every, precision = self.settings.health.recompute_every, self.arithmetic.precision
        step = self.totals.step + 1
        if not every or step % every:
            return accumulate(self.model, self.objective, data.batches, data.weight, precision)
        work = Work(self.model, self.objective, data.weight, precision)
        chosen = 0 if self.objective.ordered else step // every % len(data.batches)
        return accumulate_checked(work, data.batches, chosen, self.corrupted)

    def corrupted(self, line: str) -> None:
        self.totals.add_event("corruption", line)
        self.context.say(f"step {self.totals.step + 1}: {line}")

    def check_first(self, data: StepData, sums: dict[str, float]) -> None:
        """
        Raises:
            ArrieroError: the first step breaks the objective's invariant.
        """
        if self.totals.step == 0:
            means = {name: value / data.weight for name, value in sums.items()}
            fault = self.objective.first_step_fault(means, self.arithmetic.precision)
            if fault:
                raise ArrieroError(fault)

    def roll_back(self, verdict: Verdict, data: StepData) -> bool:
        """Go back to before the spike and pass over the data since then; False where there is no checkpoint.

        Raises:
            ArrieroError: it happens too often.
        """
        spike, health = self.rule.history, self.settings.health
        self.totals.add_event("spike", verdict.why)
        if spike.rollbacks >= health.most_rollbacks:
            why = f"{verdict.why}, and the run went back {spike.rollbacks} times already"
            raise self.bad_step(why, data, math.nan, math.nan)
        past, seconds = self.totals, self.elapsed()
        found = self.saver.restore(before=spike.bad_since)
        if found is None:
            self.context.say(
                f"step {past.step + 1}: {verdict.why}; there is no checkpoint from before to go back to"
            )
            return False
        self.take_up(found)
        found.seconds = seconds
        found.passed_over = data.stop - found.samples
        found.events = past.events
        found.history.rollbacks = spike.rollbacks + 1
        self.context.say(
            f"step {past.step + 1}: {verdict.why}; back to step {found.step}, and past the data of the "
            f"{past.step + 1 - found.step} steps since then"
        )
        return True

    def bad_step(self, why: str, data: StepData, loss: float, grad_norm: float) -> ArrieroError:
        return refuse_to_go_on(
            why, loss=loss, grad_norm=grad_norm, step=self.totals.step + 1, samples=data.indices,
            learning_rate=self.budget.learning_rate(self.totals), trained=self.trained, folder=self.context.state,
        )  # fmt: skip

    def account(
        self, data: StepData, sums: dict[str, float], taken: tuple[float, float], verdict: Verdict
    ) -> None:
        """``taken``: the step's seconds of the clock and of the processor."""
        totals = self.totals
        if verdict.decision == "take":
            totals.add_to_curve(self.budget.curve_index(totals), sums["loss"], data.weight)
            totals.window.add(data.weight, sums, data.tokens, taken[0])
        else:
            totals.add_event("skipped", verdict.why)
            self.context.say(f"step {totals.step + 1} is skipped: {verdict.why}")
        totals.step += 1
        totals.samples += data.stop - data.start
        totals.tokens += data.tokens
        totals.train_seconds += taken[0]
        totals.cpu_seconds += taken[1]
        if self.flops is not None:
            done = sum(self.flops.training(batch) for batch in data.batches)
            totals.train_flops += done
            totals.flops += done

    def report(self, loss: float, rate: float, grad_norm: float) -> None:
        """Progress every step; a line of the log, with means since the last one, every ``log_every`` steps."""
        totals, window = self.totals, self.totals.window
        speed = window.tokens / max(1e-9, window.seconds)
        self.context.progress(*self.budget.progress(totals), loss=loss, tokens_per_s=speed)
        if totals.step % self.settings.log_every and not self.budget.finished(totals):
            return
        self.context.log(
            step=totals.step, **window.means(), lr=rate, grad_norm=grad_norm, tokens_seen=totals.tokens,
            tokens_per_s=round(speed, 1), seconds=round(self.elapsed(), 3), cpu_seconds=round(totals.cpu_seconds, 3),
        )  # fmt: skip
        totals.window = type(window)()

    # ------------------------------------------------------------------------------- held-out loss

    def evaluate_when_due(self) -> None:
        if self.heldout.there and self.budget.evaluation_due(self.totals):
            self.context.log(**self.heldout.score(self.totals))

    def during_evaluation(self, batch: Batch) -> None:
        if self.flops is not None:
            self.totals.flops += self.flops.evaluation(batch)
        self.watchdog.beat(f"evaluation after step {self.totals.step}")
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
        saved = self.saver.save(self.totals)
        if saved:
            self.count_flops()
        return saved

    def count_flops(self) -> None:
        self.context.count_flops(self.totals.flops - self.counted_flops)
        self.counted_flops = self.totals.flops

    def resume(self) -> None:
        totals = self.saver.restore()
        if totals is None:
            return
        self.take_up(totals)
        self.context.say(f"going on from {self.place()}")

    def take_up(self, totals: Totals) -> None:
        """Go on from totals that a checkpoint held; the saved state's arithmetic was counted when it was saved."""
        self.count_flops()
        self.totals, self.counted_flops = totals, totals.flops
        self.rule.history = totals.history

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
