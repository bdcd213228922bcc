"""The checkpoints of one run: saved, kept, dropped, found again. The newest good one wins."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata

from arriero.artifacts.commit import PARTIAL
from arriero.training.checkpoints.background import Background
from arriero.training.checkpoints.commit import Commit, hashed
from arriero.training.checkpoints.layout import FORMAT, LAYOUT, MARKER, STATE, load_layout, rank_file
from arriero.training.checkpoints.ranks import Ranks
from arriero.training.checkpoints.reader import SafetensorsReader
from arriero.training.checkpoints.retention import Retention, Saved
from arriero.training.checkpoints.staging import Staging
from arriero.training.checkpoints.writer import SafetensorsWriter

PREFIX = "checkpoint-"
_TORCH_LOG = "c10d-NullHandler-dcp_logger"
"""Torch's checkpoint writes two debug records a tensor to it, whoever listens."""
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Found:
    """A checkpoint that is whole.

    Attributes:
        step: optimizer steps done.
        ranks: how many ranks wrote it.
        state: of the run.
        own: of this rank; None where it was written by fewer ranks.
        layout: its tensors.
    """

    folder: Path
    step: int
    ranks: int
    state: dict[str, Any]
    own: dict[str, Any] | None
    layout: Metadata

    def shapes(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and dtype of every whole tensor by name."""
        stored = self.layout.state_dict_metadata.items()
        return {name: (found.size, found.properties.dtype) for name, found in stored}


class CheckpointStore:
    """The checkpoints of one run, in ``folder``. With several ranks every method is called by all of them.

    Args:
        folder: survives a kill; the same for all ranks.
        retention: which checkpoints stay.
        say: told of anything the user should know (a damaged checkpoint, a full disk); by the first rank alone.
        ranks: who saves and loads together.
        staging: where an accelerator's tensors are copied to first.
    """

    def __init__(
        self,
        folder: Path,
        retention: Retention,
        say: Callable[[str], None],
        ranks: Ranks | None = None,
        staging: Staging | None = None,
    ) -> None:
        self._folder = folder
        self._retention = retention
        self._ranks = ranks or Ranks()
        self._say = say if self._ranks.first else lambda line: None
        self._background = Background()
        self._staging = staging or Staging()
        self._saving = 0

    # ---------------------------------------------------------------------------------------- saving

    @property
    def busy(self) -> bool:
        """True while a checkpoint is on its way to the disk."""
        return self._background.busy

    def cpu_seconds(self) -> float:
        """Processor seconds spent in the background so far."""
        return self._background.cpu_seconds()

    def save(
        self, step: int, tensors: Tensors, state: Mapping[str, Any], own: Mapping[str, Any] | None = None, *,
        loss: float | None = None, wait: bool = True, done: Callable[[], None] = lambda: None,
    ) -> bool:  # fmt: skip
        """Save, and drop what need not stay; False (and a line said) when it could not be written.

        Training goes on without it: what was there before is intact, so at worst more steps are repeated.

        Args:
            tensors: plain ones are the same on every rank that names them; of a DTensor each rank writes its part.
            state: JSON of the run; ``own``: of this rank.
            loss: held-out loss of these weights, where it was measured.
            wait: False returns as soon as training may change the tensors; the rest is done in the background, and
                what goes wrong there is said later (:meth:`poll`, :meth:`settle`).
            done: called, on any thread, when it is complete.
        """
        self.settle()
        final = self._path(step)
        ready = self._ranks.agree(self._make_partial(step) if self._ranks.first else "")
        if ready:
            if ready == "there":
                done()
                return True
            self._failed(step, ready)
            return False
        writer = SafetensorsWriter(self._partial(step), self._ranks.rank, self._staging)
        try:
            with _plain_torch():
                dcp.save(
                    dict(tensors), storage_writer=writer, no_dist=not self._ranks.there,
                    planner=DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                    process_group=self._ranks.group,
                )  # fmt: skip
        except OSError as error:
            self._failed(step, _reason(error))
            return False
        commit = Commit(
            self._partial(step), final, step, loss, writer, dict(state), dict(own or {}),
            self._ranks.rank, self._ranks.size,
        )  # fmt: skip

        def finish(beat: Callable[[], None]) -> None:
            commit.run(beat)
            done()
            self._drop_old()

        self._saving = step
        self._background.start(finish)
        return self._ranks.agree(self.settle()) if wait else True

    def poll(self) -> None:
        """Say what went wrong with the last checkpoint, if it is over."""
        if self._background.held and not self._background.busy:
            self.settle()

    def settle(self) -> bool:
        """Wait for the checkpoint on its way, if there is one; False when it came to nothing."""
        try:
            self._background.collect()
        except OSError as error:
            self._failed(self._saving, _reason(error))
            return False
        return True

    def _make_partial(self, step: int) -> str:
        """An empty folder to write in; or why not."""
        if self._path(step).exists():
            return "there"
        try:
            shutil.rmtree(self._partial(step), ignore_errors=True)
            self._partial(step).mkdir(parents=True)
        except OSError as error:
            return _reason(error)
        return ""

    def _failed(self, step: int, reason: str) -> None:
        if not self._ranks.first:
            return
        shutil.rmtree(self._partial(step), ignore_errors=True)
        steps = self._steps()
        held = f"the one of step {steps[-1]} stays" if steps else "there is none yet"
        self._say(f"no checkpoint at step {step}: {reason}; {held}, training goes on")

    def _drop_old(self) -> None:
        if not self._ranks.first:
            return
        saved = self.saved()
        kept = self._retention.kept(saved)
        for one in saved:
            if one.step not in kept:
                self._remove(one.step)

    # ---------------------------------------------------------------------------------------- finding

    def saved(self) -> list[Saved]:
        """Every checkpoint there is, oldest first, whole or not."""
        return [Saved(step, self._loss(step)) for step in self._steps()]

    def newest(
        self, fault: Callable[[Found], str | None] = lambda found: None, before: int | None = None
    ) -> Found | None:
        """The newest checkpoint that is whole and without ``fault``; those that are not go, with a line said.

        Args:
            fault: why a checkpoint is not for this run ("is of another run"), None if it is.
            before: only of an earlier step; once there is one, all that are not earlier go too.
        """
        self.settle()
        if self._ranks.first:
            self._sweep()
        steps = self._ranks.agree(self._steps())
        for step in reversed([s for s in steps if before is None or s < before]):
            found = self.open(step, fault)
            if isinstance(found, Found):
                self._remove_all([s for s in steps if before is not None and s >= before])
                return found
            self._say(f"checkpoint of step {step} {found}; going back to the one before")
            self._remove_all([step])
        return None

    def open(self, step: int, fault: Callable[[Found], str | None] = lambda found: None) -> Found | str:
        """The checkpoint of that step, or what is wrong with it (on any rank)."""
        found = self._read(step)
        why = self._first(found if isinstance(found, str) else None)
        if why is None:
            assert isinstance(found, Found)
            why = self._first(fault(found))
        return why or found

    def _first(self, why: str | None) -> str | None:
        return next((one for one in self._ranks.gather(why) if one), None)

    def _read(self, step: int) -> Found | str:
        """The checkpoint, or what this rank found wrong with it; the ranks share the hashing."""
        folder = self._path(step)
        try:
            marker = json.loads((folder / MARKER).read_bytes())
            if marker.get("format") != FORMAT:
                return f"has the format {marker.get('format')}; this version reads {FORMAT} alone"
            for number, (name, expected) in enumerate(sorted(marker["files"].items())):
                if (folder / name).stat().st_size != expected["bytes"]:
                    return f"is damaged ({name} is not as long as what was written)"
                mine = number % self._ranks.size == self._ranks.rank
                if mine and hashed(folder / name) != expected["sha256"]:
                    return f"is damaged ({name} is not what was written)"
            state, layout = (json.loads((folder / name).read_bytes()) for name in (STATE, LAYOUT))
            own = folder / rank_file(self._ranks.rank)
            return Found(
                folder, int(marker["step"]), int(marker["ranks"]), state,
                json.loads(own.read_bytes()) if own.exists() else None, load_layout(layout),
            )  # fmt: skip
        except FileNotFoundError as error:
            return f"is not whole ({Path(error.filename).name} is missing)"
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            return f"cannot be read ({error})"

    def load(self, found: Found, tensors: Tensors) -> None:
        """Copy the checkpoint's values into these tensors, whatever layout they were saved under.

        Args:
            tensors: names that the checkpoint has, with the shapes it has (of a DTensor: the global one).
        """
        with _plain_torch():
            dcp.load(
                dict(tensors), storage_reader=SafetensorsReader(found.folder, found.layout),
                planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                process_group=self._ranks.group, no_dist=not self._ranks.there,
            )  # fmt: skip

    # ---------------------------------------------------------------------------------------- folders

    def _path(self, step: int) -> Path:
        return self._folder / f"{PREFIX}{step:08d}"

    def _partial(self, step: int) -> Path:
        return self._folder / f".{PREFIX}{step:08d}{PARTIAL}"

    def _steps(self) -> list[int]:
        """Steps of all checkpoints there are, oldest first."""
        numbers = (path.name.removeprefix(PREFIX) for path in self._folder.glob(f"{PREFIX}*"))
        return sorted(int(number) for number in numbers if number.isdigit())

    def _loss(self, step: int) -> float | None:
        try:
            loss = json.loads((self._path(step) / MARKER).read_bytes())["loss"]
            return None if loss is None else float(loss)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _sweep(self) -> None:
        """Remove what a kill left half written, or half removed."""
        for partial in self._folder.glob(f".{PREFIX}*{PARTIAL}"):
            shutil.rmtree(partial, ignore_errors=True)

    def _remove(self, step: int) -> None:
        """Gone in one step, so that a kill leaves no checkpoint that is whole in part."""
        gone = self._folder / f".{PREFIX}{step:08d}.old{PARTIAL}"
        try:
            shutil.rmtree(gone, ignore_errors=True)
            self._path(step).rename(gone)
        except OSError:
            return  # a folder that cannot be written: it stays
        shutil.rmtree(gone, ignore_errors=True)

    def _remove_all(self, steps: list[int]) -> None:
        if self._ranks.first:
            for step in steps:
                self._remove(step)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


@contextmanager
def _plain_torch() -> Iterator[None]:
    """Torch's checkpoint without its warning that one process saves alone, and with plain exceptions.

    Raises:
        OSError: on one rank at least, the disk is full or not writable.
    """
    logging.getLogger(_TORCH_LOG).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
            yield
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        worse = [cause for cause in causes if not isinstance(cause, OSError)]
        raise (worse or causes)[0] from None
