"""A run's state in its checkpoints: what is saved, when, and how it is put back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import torch

from arriero.artifacts.hashing import sha256_json
from arriero.errors import ArrieroError
from arriero.models.tensor_files import TensorEntry, write_tensors
from arriero.stage import Context
from arriero.training import randomness
from arriero.training.checkpoints.layout import plain_name
from arriero.training.checkpoints.ranks import Ranks
from arriero.training.checkpoints.retention import Retention, Saved, ranking
from arriero.training.checkpoints.store import CheckpointStore, Found
from arriero.training.duration import Interval
from arriero.training.metrics import Totals, rewind_metrics
from arriero.training.objectives.base import Objective
from arriero.training.settings import TrainSettings

Tensors = dict[str, torch.Tensor]


class Saver:
    """Saves and restores a run: weights, optimizer, generators, what the objective carries, totals.

    Names are the plain model's, whatever wraps its modules, and shapes are whole: under another number of ranks
    the same checkpoint goes on (generators and carried state, which each rank has for itself, only under the same).

    Args:
        trained: the trained parameters by name, in fp32.
        optimizer: its ``state[p]`` holds tensors by name, all of them from the start.
        fingerprint: a checkpoint fits when it has the same one.
        ranks: who trains together.
        spread: a parameter's part that this rank has, or one of its optimizer state, as a part of the whole.
    """

    def __init__(
        self,
        context: Context,
        settings: TrainSettings,
        trained: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        device: torch.device,
        fingerprint: Callable[[], str],
        ranks: Ranks | None = None,
        spread: Callable[[str, torch.Tensor], torch.Tensor] = lambda name, part: part,
    ) -> None:
        self._context = context
        self._trained = {plain_name(name): p for name, p in trained.items()}
        self._optimizer = optimizer
        self._objective = objective
        self._device = device
        self._fingerprint = fingerprint
        self._ranks = ranks or Ranks()
        self._spread = spread
        best = max(settings.keep_best, 1 if settings.final_weights == "best" else 0)
        self._retention = Retention(settings.keep_checkpoints, best, settings.keep_every)
        self._store = CheckpointStore(context.state, self._retention, context.say, self._ranks)
        self._interval = Interval.parse(settings.checkpoint_every)
        self._background = settings.async_checkpoints
        self._step, self._at = 0, time.monotonic()

    # ---------------------------------------------------------------------------------------- saving

    def due(self, totals: Totals) -> bool:
        """True when the interval since the last checkpoint is over, or when this step's is to be kept for itself."""
        self._store.poll()
        if totals.step == self._step:
            return False
        if self._retention.permanent(totals.step) or self._among_best(totals):
            return True
        passed = time.monotonic() - self._at
        due = self._interval.due(totals.step - self._step, passed)
        if self._interval.unit == "steps":
            return due
        # clocks differ, so the first rank decides; and a disk that is too slow is not waited for
        return self._ranks.agree(due and not self._store.busy)

    def save(self, totals: Totals, *, wait: bool = False, done: Callable[[], None] = lambda: None) -> bool:
        """Write a checkpoint; False (and a line said) when it could not be written.

        Args:
            wait: until it is complete. Otherwise, with ``async_checkpoints``, only until training may go on; what goes
                wrong after that is said later.
            done: called, on any thread, when it is complete.
        """
        generators, others = randomness.capture(self._device)
        carried = {f"carried.{name}": value for name, value in self._objective.carried().items()}
        own = {self._own(name): value for name, value in (generators | carried).items()}
        saved = self._store.save(
            totals.step, self._tensors() | own, {"fingerprint": self._fingerprint(), "totals": totals.dump()},
            {"random": others}, loss=_heldout_loss(totals), wait=wait or not self._background, done=done,
        )  # fmt: skip
        self._step, self._at = totals.step, time.monotonic()
        return saved

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        """Let the checkpoint on its way come to its end, unless the user leaves at once."""
        if kind is None or issubclass(kind, Exception):
            self._store.settle()

    def cpu_seconds(self) -> float:
        """Processor seconds spent on checkpoints in the background: they are no part of the training steps'."""
        return self._store.cpu_seconds()

    def _among_best(self, totals: Totals) -> bool:
        if _heldout_loss(totals) is None:
            return False
        scored = [Saved(int(one["step"]), one["loss"]) for one in totals.evaluations if one["step"]]
        best = [one.step for one in ranking(scored)[: self._retention.best]]
        return totals.step in best

    def _tensors(self) -> Tensors:
        """Weights and optimizer state by name, as they are in use.

        Raises:
            ArrieroError: the optimizer holds something beside tensors.
        """
        tensors: Tensors = {f"model.{name}": self._spread(name, p) for name, p in self._trained.items()}
        for name, p in self._trained.items():
            for key, value in self._optimizer.state[p].items():
                if not isinstance(value, torch.Tensor):
                    raise ArrieroError(
                        f"the optimizer's '{key}' of {name} is no tensor, so it cannot be saved"
                    )
                tensors[f"optimizer.{key}.{name}"] = self._spread(name, value)
        return tensors

    def _own(self, name: str) -> str:
        return f"rank-{self._ranks.rank:05d}.{name}"

    # ---------------------------------------------------------------------------------------- restoring

    @torch.no_grad()
    def restore(self, before: int | None = None) -> Totals | None:
        """Put back the newest checkpoint that is whole and of this run; None (and nothing changed) where there is none.

        The metrics file is cut after the checkpoint's step: what comes later is about to be done again.

        Args:
            before: take one from before this step, and remove those that are not.
        """
        found = self._store.newest(self._fault, before)
        if found is None and before is not None:
            return None
        if self._ranks.first:
            rewind_metrics(self._context.state, found.step if found else -1)
        if found is None:
            return None
        self._put_back(found)
        self._step, self._at = found.step, time.monotonic()
        return Totals.load(found.state["totals"])

    @torch.no_grad()
    def load_best(self) -> int | None:
        """Put back weights and optimizer of the checkpoint with the lowest held-out loss; its step, or None."""
        for best in self._ranks.agree(ranking(self._store.saved())):
            found = self._store.open(best.step, self._fault)
            if isinstance(found, Found):
                self._store.load(found, self._tensors())
                return best.step
            self._say(f"checkpoint of step {best.step} {found}; it cannot give the best weights")
        return None

    @torch.no_grad()
    def write_milestones(self, folder: Path) -> None:
        """Weights of the checkpoints that stay for good, as ``folder/checkpoints/step-<n>.safetensors``.

        Raises:
            OSError: the disk is full.
        """
        for step in self._ranks.agree([one.step for one in self._store.saved()]):
            if not self._retention.permanent(step):
                continue
            found = self._store.open(step, self._fault)
            if not isinstance(found, Found):
                self._say(f"checkpoint of step {step} {found}; its weights do not come with the model")
                continue
            shapes = {n: s for n, s in found.shapes().items() if self._ranks.first and n.startswith("model.")}
            whole = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()}
            self._store.load(found, whole)
            if self._ranks.first:
                path = folder / "checkpoints" / f"step-{step:08d}.safetensors"
                path.parent.mkdir(exist_ok=True)
                write_tensors(path, [_entry(name, tensor) for name, tensor in whole.items()])

    def _say(self, line: str) -> None:
        if self._ranks.first:
            self._context.say(line)

    def _fault(self, found: Found) -> str | None:
        """Why this checkpoint is not one to go on from."""
        wanted = {name: (tensor.shape, tensor.dtype) for name, tensor in self._tensors().items()}
        everywhere = {name for part in self._ranks.gather(list(wanted)) for name in part}
        if found.state.get("fingerprint") != self._fingerprint():
            return "is of another run (other settings, data or model)"
        there = {name: one for name, one in found.shapes().items() if not name.startswith("rank-")}
        for name, (shape, dtype) in wanted.items():
            if name not in there:
                return f"lacks {name}"
            if there[name] != (shape, dtype):
                return f"has {name} as {there[name][1]} {list(there[name][0])}, not {dtype} {list(shape)}"
        unknown = there.keys() - everywhere
        return f"holds {min(unknown)}, which this run does not have" if unknown else None

    def _put_back(self, found: Found) -> None:
        """Everything into place.

        Raises:
            ArrieroError: what each rank carries from sample to sample was saved by another number of ranks.
        """
        prefix = self._own("")
        same = found.ranks == self._ranks.size and found.own is not None
        own = {
            name: torch.empty(shape, dtype=dtype)
            for name, (shape, dtype) in found.shapes().items()
            if same and name.startswith(prefix)
        }
        if not same and any(".carried." in name for name in found.shapes()):
            raise ArrieroError(
                f"the checkpoint of step {found.step} was written by {found.ranks} ranks, and what each carries from "
                f"window to window does not fit {self._ranks.size}; go on with {found.ranks}"
            )
        self._store.load(found, self._tensors() | own)
        held = {name.removeprefix(prefix): tensor for name, tensor in own.items()}
        carried = {n.removeprefix("carried."): t for n, t in held.items() if n.startswith("carried.")}
        self._objective.carry({name: tensor.to(self._device) for name, tensor in carried.items()})
        if found.own is not None and same:
            randomness.restore(held, found.own["random"], self._device)
        else:
            randomness.seed_all(_seed(self._context.seed, found.step, self._ranks.rank))


def _entry(name: str, tensor: torch.Tensor) -> TensorEntry:
    return TensorEntry(name.removeprefix("model."), tuple(tensor.shape), tensor.dtype, lambda: tensor)


def _heldout_loss(totals: Totals) -> float | None:
    """Held-out loss of the weights as they are, where it was measured just now."""
    last = totals.evaluations[-1] if totals.evaluations else None
    if last is None or last["step"] != totals.step or not math.isfinite(last["loss"]):
        return None
    return float(last["loss"])


def _seed(seed: int, step: int, rank: int) -> int:
    """A seed for the generators where a run goes on under another number of ranks."""
    return int(sha256_json([seed, step, rank])[:15], 16)
