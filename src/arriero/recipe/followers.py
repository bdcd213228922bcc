"""Several processes, one walk: the first walks the recipe, the others wait and take part in its training stages.

torchrun starts every process with the same command. The first tells the others, through the group's key-value store,
which stage is about to be run; they run its code up to the end of the training, which is a collective affair
(``training.parallel``), and throw away what they have beside it.
"""

from __future__ import annotations

import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from arriero.artifacts import Artifact
from arriero.errors import ArrieroError
from arriero.recipe.plan import artifact_names, by_role
from arriero.recipe.progress import Display
from arriero.recipe.runfolder import Workplace
from arriero.recipe.schema import Step
from arriero.recipe.stop import StopFlag
from arriero.stage import get_stage
from arriero.training.parallel.layout import check_started, layout_of
from arriero.training.parallel.settings import ParallelSettings
from arriero.training.parallel.world import world

if TYPE_CHECKING:
    from arriero.recipe.execute import Job

P = ParamSpec("P")
T = TypeVar("T")
_LOOK = 0.1
"""Seconds between two looks at the store."""


def one_walk(walk: Callable[P, T]) -> Callable[P, T]:
    """Only the first process does ``walk``; the others follow it, and end when it has ended.

    Raises:
        SystemExit: in the other processes, when all is done.
    """

    @functools.wraps(walk)
    def walked(*args: P.args, **kwargs: P.kwargs) -> T:
        here = world()
        if here.size == 1:
            return walk(*args, **kwargs)
        if not here.leads:
            follow()
        try:
            return walk(*args, **kwargs)
        finally:
            _tell({"end": True})

    return walked


_told = 0


def _tell(message: dict[str, Any]) -> None:
    global _told
    from arriero.training.parallel.world import store

    store().set(f"walk/{_told}", json.dumps(message))
    _told += 1


def call_followers(job: Job) -> None:
    """Have the other processes take part in a stage, where there are any and the stage can be divided."""
    if world().size == 1 or not isinstance(getattr(job.step.settings, "parallel", None), ParallelSettings):
        return
    _tell(
        {
            "name": job.step.name, "kind": job.step.stage.kind, "settings": job.step.settings.model_dump(mode="json"),
            "inputs": {role: [str(one.path) for one in items] for role, items in job.inputs.items()},
            "final": str(job.final),
        }
    )  # fmt: skip


def check_processes(steps: Iterable[Step]) -> None:
    """
    Raises:
        ArrieroError: a stage that is about to be run wants other processes than there are.
    """
    for step in steps:
        parallel = getattr(step.settings, "parallel", None)
        if isinstance(parallel, ParallelSettings):
            check_started(parallel, world().size, step.name)
            layout_of(parallel, world().size)


def follow() -> NoReturn:
    """Take part in the stages that the first process names, until it says that all is done.

    Raises:
        SystemExit: then.
    """
    from arriero.training.parallel.team import RankDone

    number, stop = 0, StopFlag()
    with stop.on_signals(_NoDisplay()):
        while not (message := _heard(number)).get("end"):
            number += 1
            with suppress(
                RankDone, ArrieroError
            ):  # the first process meets the same error, and tells the user
                _take_part(message, stop)
    raise SystemExit(0)


def _heard(number: int) -> dict[str, Any]:
    """The first process' message of this number, whenever it comes."""
    from arriero.training.parallel.world import store

    key = f"walk/{number}"
    while not store().check([key]):
        time.sleep(_LOOK)
    found: dict[str, Any] = json.loads(store().get(key))
    return found


def _take_part(message: dict[str, Any], stop: StopFlag) -> None:
    stage = get_stage(message["kind"])
    settings = stage.Settings.model_validate(message["settings"])
    step = Step(message["name"], stage, settings)
    inputs = {role: [Artifact.open(Path(p)) for p in paths] for role, paths in message["inputs"].items()}
    state = Workplace(Path(message["final"])).state
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="arriero-") as folder:
        context = FollowerContext(Path(folder), state, settings.seed or 0, stop)
        stage.run(settings, by_role(step, inputs, artifact_names(inputs)), context)


class FollowerContext:
    """What a stage gets in a process that only takes part (see :class:`arriero.stage.Context`): nobody listens."""

    def __init__(self, folder: Path, state: Path, seed: int, stop: StopFlag) -> None:
        self.folder, self.state, self.seed = folder, state, seed
        self._stop = stop

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Nobody looks."""

    def log(self, **figures: Any) -> None:
        """The first process keeps the metrics."""

    def say(self, line: str) -> None:
        """The first process says it."""

    def stop_requested(self) -> bool:
        return bool(self._stop)

    def count_flops(self, flops: float) -> None:
        """The first process counts for all."""


class _NoDisplay(Display):
    def start(self, name: str, kind: str, number: int, of: int) -> None: ...
    def progress(self, done: float, total: float | None, unit: str, figures: dict[str, Any]) -> None: ...
    def say(self, line: str) -> None: ...
    def finish(self, line: str) -> None: ...
    def close(self) -> None: ...
