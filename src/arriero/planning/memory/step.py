"""One optimizer step on fake tensors with every storage logged: the run's own model, objective, optimizer and update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor, nn

from arriero.cost.operations import tensors
from arriero.cost.trace import Trace, trace
from arriero.models.config import ModelConfig
from arriero.planning.memory.log import AFTER, BACKWARD, BEFORE, FORWARD, START, UPDATE, StorageLog
from arriero.training.objectives.base import Objective, Shape
from arriero.training.recompute import blocks_of
from arriero.training.traced import Work, step_state, take_step


@dataclass(frozen=True)
class LoggedStep:
    """A traced step and the log of its storages."""

    trace: Trace
    log: StorageLog


def logged_step(work: Work, config: ModelConfig, shapes: Sequence[Shape], *, fake: bool = True) -> LoggedStep:
    """One step of micro-batches of these shapes, as it would run on one device.

    Args:
        work: what is trained; its configuration is put aside for ``config``, which may be shallower.
        fake: False runs it for real, to check the fake figures against.
    """
    log = StorageLog(getattr(config, "d_model", 0), config.vocab_size)
    objective = Watched(work.objective)
    watched = replace(work, objective=cast(Objective, objective))

    def make() -> list[Any]:
        state = step_state(work, config, list(shapes))
        model, optimizer, _, *batches = state
        if not fake:
            model.init_weights(0)
        objective.watch = Watch(model, log)
        watch_state(model, optimizer, batches, log)
        return state

    def run(state: list[Any]) -> None:
        take_step(watched, state, lambda: log.mark(UPDATE))

    return LoggedStep(trace(make, run, fake=fake, live=log), log)


def watch_state(model: nn.Module, optimizer: Any, batches: Sequence[Any], log: StorageLog) -> None:
    """Say what is there before the step begins, and watch for gradients."""
    known: list[tuple[list[Tensor], str]] = [
        (list(model.parameters()), "weights"),
        (list(model.buffers()), "tables"),
        (list(tensors(dict(optimizer.state))), "optimizer"),
        (list(tensors([vars(batch) for batch in batches])), "batch"),
    ]
    for found, kind in known:
        for tensor in found:
            log.add(tensor)
        log.tag(found, kind)
    for p in model.parameters():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(lambda p: log.tag([p.grad], "gradients"))


class Watch:
    """Marks where micro-batches and blocks begin and end, forward and backward, and what is inside the branches."""

    def __init__(self, model: nn.Module, log: StorageLog) -> None:
        self._log = log
        self._batches = 0
        self._calls: dict[str, int] = {}
        for block in blocks_of(model):
            block.register_forward_pre_hook(self._begin)
            block.register_forward_hook(self._end)
            for norm in (block.attention_norm, block.feed_forward_norm):
                if norm is not None:
                    norm.register_forward_hook(self._entry)
            for branch in (block.attention, block.feed_forward):
                branch.register_forward_pre_hook(self._enter)
                branch.register_forward_hook(self._leave)

    def start(self) -> None:
        """A micro-batch begins."""
        self._log.mark(START, self._batches)
        self._calls = {}
        self._batches += 1

    def _begin(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        kind, batch = type(block).__name__, self._batches - 1
        number = self._calls[kind] = self._calls.get(kind, -1) + 1
        stream = inputs[0]
        if not number and stream.requires_grad:
            stream.register_hook(lambda gradient: self._log.mark(BEFORE, batch, kind))
        self._log.mark(FORWARD, batch, kind, number)

    def _end(self, block: nn.Module, inputs: Any, output: Tensor) -> None:
        kind, batch = type(block).__name__, self._batches - 1
        number = self._calls[kind]
        if output.requires_grad:
            output.register_hook(lambda gradient: self._log.mark(BACKWARD, batch, kind, number))
        self._log.mark(AFTER, batch, kind, number)

    def _entry(self, norm: nn.Module, inputs: Any, output: Tensor) -> None:
        self._log.tag([output], "entry")

    def _enter(self, branch: nn.Module, inputs: Any) -> None:
        self._log.inside += 1

    def _leave(self, branch: nn.Module, inputs: Any, output: Any) -> None:
        self._log.inside -= 1
        self._log.tag(tensors(output), "stream")


class Watched:
    """An objective that says where a micro-batch begins."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.watch: Watch | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def loss_sum(self, model: Any, batch: Any) -> Any:
        """As the inner one's."""
        if self.watch is not None:
            self.watch.start()
        return self.inner.loss_sum(model, batch)
