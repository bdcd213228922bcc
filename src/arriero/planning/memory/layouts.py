"""One process of a layout on fake tensors: the run's own parallel code in a group of processes that do not exist.

torch's ``fake`` backend answers every collective at once, so FSDP, tensor, sequence and context parallelism run as they
are. A pipeline does not (its schedule asks its neighbours for shapes and reads numbers), so the stage's own modules are
run in the schedule's order, with the buffers that torch's ``PipelineStage`` makes for every micro-batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, cast

import torch

from arriero.cost.trace import trace
from arriero.models.checkpoint import build_model
from arriero.models.config import ModelConfig
from arriero.planning.memory.fake_group import fake_group
from arriero.planning.memory.log import UPDATE, StorageLog
from arriero.planning.memory.pipeline_stage import StageRun
from arriero.planning.memory.step import LoggedStep, Watch, Watched, watch_state
from arriero.training.ema import WeightAverage
from arriero.training.objectives.base import Objective, Shape
from arriero.training.objectives.head import head_parameters
from arriero.training.optimizers.make import make_optimizer
from arriero.training.parallel.grid import Grid
from arriero.training.parallel.layout import Layout, check_layout
from arriero.training.parallel.many import Many
from arriero.training.parallel.shared import Share, SharedObjective
from arriero.training.recompute import wrap_blocks
from arriero.training.step import accumulate
from arriero.training.traced import Work


def logged_rank(
    work: Work, config: ModelConfig, shapes: Sequence[Shape], layout: Layout, rank: int = 0
) -> LoggedStep:
    """One step of process ``rank``; ``shapes`` are the micro-batches of the processes that share its samples.

    Raises:
        ArrieroError: the layout does not fit what is trained, or this process is in a group already.
    """
    check_layout(layout, config, work.objective, work.settings)
    log = StorageLog(getattr(config, "d_model", 0), config.vocab_size, sharded=layout.sharded)
    watched = Watched(work.objective)
    with fake_group(layout.size, rank), _seen_resizes(log), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by copy.deepcopy
        # of torch's own FSDP; and it fears for views that are written to, which no block does
        warnings.filterwarnings("ignore", "`torch.distributed.*is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
        grid = Grid(layout, torch.device("cpu"))
        one = SharedObjective(
            cast(Objective, watched), grid, lambda objective, share: (torch.zeros(()), {}), 1
        )
        shares = [one._share(work.objective.synthetic(shape), False) for shape in shapes]

        def make() -> list[Any]:
            return _state(work, config, grid, watched, [_as_fake(share) for share in shares], log)

        def run(state: list[Any]) -> None:
            _step(state, work, log)

        return LoggedStep(trace(make, run, live=log), log)


def _state(
    work: Work, config: ModelConfig, grid: Grid, watched: Watched, shares: list[Share], log: StorageLog
) -> list[Any]:
    """As ``traced.step_state``, in the order of a run on several processes: recomputation, cut, optimizer."""
    model = build_model(config)
    work.adapt(model)
    head_parameters(model)
    wrap_blocks(model, work.settings.activation_checkpointing)
    many = Many(model, grid.layout, work.settings, torch.device("cpu"), grid)
    optimizer = make_optimizer(model, work.settings)
    average = WeightAverage(
        [p for p in model.parameters() if p.requires_grad], optimizer, work.settings.ema_decay
    )
    watched.watch = Watch(many.model, log)
    watch_state(model, optimizer, [x for share in shares for x in (share.part, share.whole)], log)
    log.tag(many.model.buffers(), "tables")  # the copy that is cut has its own
    objective = many.objective(cast(Objective, watched))
    stage = None if many._pipeline is None else StageRun(many._pipeline, shares, work, log)
    return [model, optimizer, average, many, stage, objective, *shares]


def _step(state: list[Any], work: Work, log: StorageLog) -> None:
    model, optimizer, average, many, stage, objective, *shares = state
    weight = sum(work.objective.weight(share.part) for share in shares)
    if stage is None:
        accumulate(many.model, objective, shares, weight, work.precision)
    else:
        stage.run(objective.inner, shares, weight)
    log.mark(UPDATE)
    many.finish_gradients()
    trained = [p for p in model.parameters() if p.requires_grad]
    log.tag([p.grad for p in trained if p.grad is not None], "gradients")
    if work.settings.grad_clip:  # the norm itself is a number a parameter
        torch.nn.utils.clip_grads_with_norm_(trained, work.settings.grad_clip, torch.ones(()))
    optimizer.step()
    average.update(1)
    optimizer.zero_grad(set_to_none=True)


def _as_fake(share: Share) -> Share:
    """The share with tensors of the mode that is on; the others would not be seen."""

    def of(batch: Any) -> Any:
        tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
        made = {name: torch.empty_like(t) for name, t in tensors.items() if isinstance(t, torch.Tensor)}
        return replace(batch, **made)

    part = of(share.part)
    return replace(share, part=part, whole=part if share.whole is share.part else of(share.whole))


@contextmanager
def _seen_resizes(log: StorageLog) -> Iterator[None]:
    """FSDP frees what it gathered by giving its storage no size, which is no operation that a mode would see."""
    resize: Callable[..., Any] = torch.UntypedStorage.resize_

    def seen(storage: Any, size: int) -> Any:
        found = resize(storage, size)
        log.resized(storage)
        return found

    torch.UntypedStorage.resize_ = seen
    try:
        yield
    finally:
        torch.UntypedStorage.resize_ = resize
