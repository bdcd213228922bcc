"""The one training loop. An objective plugs in; a stage only prepares the model and the data.

A step: take the next samples (feed.py), run their micro-batches forward and backward with the loss sum divided by the
weight of the whole step (step.py), clip, judge (health/), update. Everything that decides on the next step is in the
checkpoint (saving.py), so a run that was killed at any moment ends with the same bits as one that was not (with a
budget of seconds: goes on with what is left of it, see budget.py).
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import torch

from arriero.artifacts.hashing import sha256_json
from arriero.cost.allocator import keep_freed_memory
from arriero.cost.device import load_profile
from arriero.errors import ArrieroError, Interrupted
from arriero.stage import Context
from arriero.training import randomness
from arriero.training.budget import budget_of
from arriero.training.ema import WeightAverage
from arriero.training.feed import Feed, StepData
from arriero.training.guard import refuse_to_go_on
from arriero.training.health.corruption import Work, accumulate_checked
from arriero.training.health.outliers import OutlierRule, Verdict
from arriero.training.health.watchdog import Watchdog
from arriero.training.heldout import Held, HeldOut
from arriero.training.metrics import Totals
from arriero.training.micro_batch import micro_batch_size
from arriero.training.model_folder import full_disk_is_an_error
from arriero.training.objectives.base import Batch, Objective
from arriero.training.optimizers.make import make_optimizer
from arriero.training.optimizers.roles import set_learning_rate
from arriero.training.parallel.team import arrange
from arriero.training.parallel.world import own_threads
from arriero.training.precision import Arithmetic, use_threads
from arriero.training.prepare import on_device, prepared
from arriero.training.profiling import StepProfiler
from arriero.training.saving import Saver
from arriero.training.settings import TrainSettings
from arriero.training.tasks import Tasks
from arriero.training.telemetry import Telemetry


class FlopCount(Protocol):
    """Arithmetic of one batch, in a training step and in an evaluation, and of the optimizer's update."""

    def training(self, batch: Batch) -> float: ...

    def evaluation(self, batch: Batch) -> float: ...

    def update(self) -> float: ...


@dataclass(frozen=True)
class TrainResult:
    """What a run did, over all its resumes.

    Attributes:
        steps, samples: of the whole run.
        totals: tokens, seconds, FLOPs, held-out evaluations, loss curve.
        arithmetic: precision and threads it ran with.
        weights_step: the step whose weights the model has: the last, or the best.
        processes: that shared the steps; ``devices``: of their own that they had.
    """

    steps: int
    samples: int
    totals: Totals
    arithmetic: Arithmetic
    weights_step: int
    processes: int
    devices: int

    @property
    def heldout(self) -> dict[str, float] | None:
        """The held-out evaluation of the model's weights; None where none was made."""
        scored = [one for one in self.totals.evaluations if one["step"] == self.weights_step]
        return scored[-1] if scored else None


def train(
    model: torch.nn.Module,
    objective: Objective,
    settings: TrainSettings,
    context: Context,
    *,
    arithmetic: Arithmetic,
    heldout: Held = None,
    flops: FlopCount | None = None,
    tasks: Tasks | None = None,
) -> TrainResult:
    """Train ``model`` in place, resuming from ``context.state`` when there is something to resume.

    Args:
        model: its parameters that require gradients are trained, in fp32.
        objective: loss and training samples.
        arithmetic: precision and threads (``kept_arithmetic``).
        heldout: an objective over other samples (or one for each source), scored before, at intervals and after.
        flops: arithmetic of a batch, for ``context.count_flops``.
        tasks: what else is scored whenever held-out samples are (tasks.py).

    Raises:
        ArrieroError: no samples, loss or gradient not finite, first-step invariant of the objective broken.
        Interrupted: the user asked to stop; the state is saved.
    """
    if len(objective) == 0:
        raise ArrieroError("there is nothing to train on: the training set is empty")
    keep_freed_memory()
    with use_threads(own_threads(arithmetic.threads)), on_device(model, arithmetic.device):
        return _Run(model, objective, settings, context, arithmetic, heldout, flops, tasks).go()


class _Run:
    def __init__(
        self,
        model: torch.nn.Module,
        objective: Objective,
        settings: TrainSettings,
        context: Context,
        arithmetic: Arithmetic,
        heldout: Held,
        flops: FlopCount | None,
        tasks: Tasks | None,
    ) -> None:
        self.shapes = {name: list(p.shape) for name, p in model.named_parameters() if p.requires_grad}
        self.team = arrange(model, objective, settings)
        self.model = self.team.model
        if tasks is not None:
            self.team.check_whole("tasks in the course of a training")
        objective = self.objective = self.team.objective(objective)
        self.settings = settings
        self.context = context
        self.arithmetic = arithmetic
        self.flops = self.team.flops(flops)
        device = next(model.parameters()).device
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.parameters = list(self.trained.values())
        self.optimizer = make_optimizer(model, settings, self.team.cut)
        self.average = WeightAverage(self.parameters, self.optimizer, settings.ema_decay)
        self.budget = budget_of(settings, objective)
        micro_batch = micro_batch_size(settings, objective.tokens_per_sample())
        self.feed = Feed(objective, context.seed, micro_batch, device, self.team.count)
        self.heldout = HeldOut(self.team, heldout, settings, arithmetic.precision, self.during_evaluation)
        self.saver = Saver(
            context,
            settings,
            self.trained,
            self.optimizer,
            objective,
            device,
            self.fingerprint,
            spread=self.team.spread,
        )
        self.tasks = tasks
        self.totals = Totals()
        self.rule = OutlierRule(settings.health, self.totals.history)
        self.watchdog = Watchdog(
            context.state,
            settings.health.hang_seconds,
            context.say,
            rank=self.team.rank,
            world=self.team.size,
        )
        self.devices = self.team.size if device.type == "cuda" else 1
        self.telemetry = Telemetry(
            model, self.trained, self.optimizer, arithmetic, load_profile(), devices=self.devices
        )
        self.profiler = StepProfiler(
            context.folder / "logs" / "profile" if settings.profile else None, context.say
        )
        self.counted_flops = 0.0
        self.since = time.perf_counter()

    # ------------------------------------------------------------------------------- the whole run

    def go(self) -> TrainResult:
        randomness.seed_all(self.context.seed)
        with (
            closing(self.feed), closing(self.profiler), self.watchdog, self.saver,
            prepared(self.model, self.settings, self.arithmetic),
        ):  # fmt: skip
            self.resume()
            if self.telemetry.formula:
                self.context.say(self.telemetry.formula)
            self.model.train()
            self.evaluate_when_due()
            while not self.budget.finished(self.totals):
                if any(self.team.any(self.context.stop_requested())):
                    self.stop()
                self.watchdog.beat(f"step {self.totals.step + 1}")
                self.step()
                self.profiler.step()
                self.evaluate_when_due()
                if self.saver.due(self.totals):
                    self.save()
            self.check_learnt()
            self.save(wait=True)
            self.count_flops()  # also where a full disk kept the last checkpoint from being written
            with full_disk_is_an_error(self.context.folder):
                self.saver.write_milestones(self.context.folder)
            chosen = self.chosen_weights()
        self.average.give()
        self.model.eval()
        self.team.finish()
        return TrainResult(
            self.totals.step,
            self.totals.samples,
            self.totals,
            self.arithmetic,
            chosen,
            self.team.size,
            self.devices,
        )

    def check_learnt(self) -> None:
        """
        Raises:
            ArrieroError: every step was skipped, so the weights are those from before.
        """
        if not self.totals.curve_means():
            why = self.totals.events[-1]["why"]
            raise ArrieroError(f"all {self.totals.step} steps were skipped, and nothing was learnt: {why}")

    # ------------------------------------------------------------------------------- one step

    def step(self) -> None:
        started, cpu_started = time.perf_counter(), self.cpu_seconds()
        self.team.reseed(self.context.seed, self.totals.samples + self.totals.passed_over)
        data = self.data()
        found = self.gradient(data)
        self.team.finish_gradients()
        sums = self.team.losses({name: float(value) for name, value in found.items()})
        loss, grad_norm = (
            sums["loss"] / data.weight,
            self.team.clip(self.parameters, self.settings.grad_clip, self.optimizer),
        )
        rate = self.budget.learning_rate(self.totals)
        self.check_first(data, sums)
        verdict = self.rule.judge(self.totals.step + 1, loss, grad_norm)
        if verdict.decision == "take":
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
            self.average.update(self.totals.step + 1)
        elif verdict.decision == "stop":
            raise self.bad_step(verdict.why, data, loss, grad_norm)
        self.optimizer.zero_grad(set_to_none=True)
        if verdict.decision == "roll back" and self.roll_back(verdict, data, loss):
            return
        taken = self.team.seconds(time.perf_counter() - started, self.cpu_seconds() - cpu_started)
        self.account(data, sums, taken, verdict)
        self.report(loss, rate, grad_norm)

    def data(self) -> StepData:
        """The samples of the coming step.

        Raises:
            ArrieroError: there is nothing in them to learn from.
        """
        totals = self.totals
        start = totals.samples + totals.passed_over
        data = self.feed.step(start, self.budget.next_position(totals) + totals.passed_over)
        if not data.weight:
            raise ArrieroError(
                f"step {totals.step + 1}: none of its samples {data.indices} has a token to learn from"
            )
        return data.shaped(self.objective, self.budget.share(vars(totals)))

    def gradient(self, data: StepData) -> dict[str, torch.Tensor]:
        """The step's gradient and its sums; every so often with a check of the machine."""
        every, precision = self.settings.health.recompute_every, self.arithmetic.precision
        step = self.totals.step + 1
        if not every or step % every or not self.team.recomputes:
            return self.team.accumulate(self.model, self.objective, data.batches, data.weight, precision)
        work = Work(self.model, self.objective, data.weight, precision)
        chosen = 0 if self.objective.ordered else step // every % len(data.batches)
        return accumulate_checked(
            work, data.batches, chosen, self.corrupted, lambda same: not any(self.team.any(not same))
        )

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

    def roll_back(self, verdict: Verdict, data: StepData, loss: float) -> bool:
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
            if math.isfinite(loss):
                self.rule.start_anew()
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
        totals.waited += data.waited
        totals.window.waited += data.waited
        totals.cpu_seconds += taken[1]
        if self.flops is not None:
            done = sum(self.flops.training(batch) for batch in data.batches)
            done += self.flops.update() if verdict.decision == "take" else 0.0
            done = self.team.count(done)
            totals.window.flops += done
            totals.train_flops += done
            totals.flops += done

    def report(self, loss: float, rate: float, grad_norm: float) -> None:
        """Progress every step; a line of the log, with means since the last one, every ``log_every`` steps."""
        totals, window = self.totals, self.totals.window
        speed = self.telemetry.speed(window)
        done, of, unit = self.budget.progress(totals)
        memory = self.telemetry.memory()
        shown = {
            "loss": loss,
            **speed,
            "memory_bytes": memory["memory_bytes"],
            "lr": rate,
            "grad_norm": grad_norm,
        }
        self.context.progress(done, of, unit, **shown)
        if totals.step % self.settings.log_every and not self.budget.finished(totals):
            return
        self.context.log(
            step=totals.step, **window.means(), lr=rate, grad_norm=grad_norm, tokens_seen=totals.tokens, **speed,
            seconds=round(self.elapsed(), 3), cpu_seconds=round(totals.cpu_seconds, 3), **memory,
            **self.telemetry.waited(window),
        )  # fmt: skip
        totals.window = type(window)()

    # ------------------------------------------------------------------------------- held-out loss

    def evaluate_when_due(self) -> None:
        if (self.heldout.there or self.tasks) and self.budget.evaluation_due(self.totals):
            with self.average.in_place_of_weights():
                if self.heldout.there:
                    self.context.log(**self.heldout.score(self.totals))
                if self.tasks:
                    self.score_tasks(self.tasks)

    def score_tasks(self, tasks: Tasks) -> None:
        step = self.totals.step
        with torch.random.fork_rng(devices=[]):
            found = tasks.score(self.model)
        self.totals.tasks.append({"step": step, **found.figures})
        self.totals.flops += found.flops
        for sample in found.samples:
            self.context.say(f"step {step}: {sample['prompt']} → {sample['text']}".replace("\n", " "))
        self.context.log(step=step, **found.figures, **({"samples": found.samples} if found.samples else {}))

    def during_evaluation(self, batch: Batch) -> None:
        if self.flops is not None:
            self.totals.flops += self.team.count(self.flops.evaluation(batch))
        self.watchdog.beat(f"evaluation after step {self.totals.step}")
        if any(self.team.any(self.context.stop_requested())):
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
        settings = self.settings.model_dump(mode="json", exclude={"parallel"})
        return sha256_json(
            [settings, self.context.seed, *self.budget.identity(), len(self.objective), self.shapes]
        )

    def save(self, *, wait: bool = False) -> bool:
        """Write a checkpoint; only when it is complete count its arithmetic, so that repeated steps count once."""
        self.elapsed()
        flops = self.totals.flops
        with self.average.set_aside():
            return self.saver.save(self.totals, wait=wait, done=lambda: self.count_flops(flops))

    def count_flops(self, upto: float | None = None) -> None:
        """Count what was done, up to this much, and was not counted before."""
        done = self.totals.flops if upto is None else upto
        self.context.count_flops(done - self.counted_flops)
        self.counted_flops = done

    def cpu_seconds(self) -> float:
        """Processor seconds of this process, but for those of checkpoints written in the background."""
        return time.process_time() - self.saver.cpu_seconds()

    def chosen_weights(self) -> int:
        """The step whose weights the model is left with: the last, or as the settings have it that of the best."""
        if self.settings.final_weights == "last" or not self.heldout.there:
            return self.totals.step
        best = self.saver.load_best()
        if best is None:
            self.context.say("no checkpoint has the best weights, so the model has the last ones")
            return self.totals.step
        self.context.say(f"the model has the weights of step {best:,}, which have the lowest held-out loss")
        return best

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
        kept = self.save(wait=True)
        note = "" if kept else " (it could not be saved, so it goes on from the checkpoint before)"
        raise Interrupted(f"stopped at {self.place()}{note}; the same command goes on from there")

    def place(self) -> str:
        """ "step 7 of 30", or "step 7 (12 of 60 CPU seconds)"."""
        done, of, unit = self.budget.progress(self.totals)
        if unit == "steps":
            return f"step {done:,} of {of:,}"
        return f"step {self.totals.step:,} ({done:,.1f} of {of:,.1f} {unit})"
