"""Training checkpoints: whole or not at all, checked by hash, the newest good one wins.

``checkpoint-<step>/`` holds ``tensors.safetensors`` (fp32 weights, optimizer state, generators),
``state.json`` (position, totals) and, written last, ``complete.json`` with the SHA-256 of both. Torch's own
distributed checkpoint is not used because its metadata file is a pickle, and nothing here is ever unpickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from arriero.artifacts.commit import PARTIAL, commit_folder, fresh_folder, fsync_path, write_json_atomic
from arriero.artifacts.hashing import sha256_file
from arriero.models.tensor_files import TensorEntry, write_tensors

FORMAT = "arriero.checkpoint/1"
TENSORS, STATE, MARKER = "tensors.safetensors", "state.json", "complete.json"
_PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Checkpoint:
    """A training state as it was after ``step`` optimizer steps."""

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run, in ``folder``.

    Args:
        folder: survives a kill.
        keep: newest checkpoints to keep.
        say: told of anything the user should know (a damaged checkpoint, a full disk).
    """

    def __init__(self, folder: Path, keep: int, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._keep = keep
        self._say = say

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> bool:
        """Write a checkpoint and drop the oldest ones; False (and a line said) when it could not be written.

        Training goes on without it: what was there before is intact, so at worst more steps are repeated.
        """
        final = self._path(step)
        if final.exists():
            return True
        try:
            with fresh_folder(final.with_name(f".{final.name}{PARTIAL}")) as partial:
                write_tensors(partial / TENSORS, [_entry(*item) for item in tensors.items()])
                fsync_path(partial / TENSORS)
                write_json_atomic(partial / STATE, dict(state))
                hashes = {name: sha256_file(partial / name) for name in (TENSORS, STATE)}
                write_json_atomic(partial / MARKER, {"format": FORMAT, "step": step, "sha256": hashes})
                commit_folder(partial, final)
        except OSError as error:
            last = self._steps()
            held = f"the one of step {last[-1]} stays" if last else "there is none yet"
            self._say(f"no checkpoint at step {step}: {error.strerror or error}; {held}, training goes on")
            return False
        for old in self._steps()[: -self._keep]:
            shutil.rmtree(self._path(old), ignore_errors=True)
        return True

    def latest(self, suits: Callable[[dict[str, Any]], bool] = lambda state: True) -> Checkpoint | None:
        """The newest checkpoint that is whole and whose state ``suits``; others are removed with a line said."""
        for partial in self._folder.glob(f".{_PREFIX}*{PARTIAL}"):
            shutil.rmtree(partial, ignore_errors=True)
        for step in reversed(self._steps()):
            found = self._read(step)
            if isinstance(found, Checkpoint) and suits(found.state):
                return found
            why = found if isinstance(found, str) else "is of another run"
            self._say(f"checkpoint of step {step} {why}; going back to the one before")
            shutil.rmtree(self._path(step), ignore_errors=True)
        return None

    def drop_from(self, step: int) -> None:
        """Remove the checkpoints of ``step`` and later."""
        for later in self._steps():
            if later >= step:
                shutil.rmtree(self._path(later), ignore_errors=True)

    def _read(self, step: int) -> Checkpoint | str:
        """The checkpoint, or what is wrong with it."""
        folder = self._path(step)
        try:
            marker = json.loads((folder / MARKER).read_bytes())
            if marker.get("format") != FORMAT:
                return f"has the format {marker.get('format')}, not {FORMAT}"
            for name in (TENSORS, STATE):
                if sha256_file(folder / name) != marker["sha256"][name]:
                    return f"is damaged ({name} is not what was written)"
            return Checkpoint(step, load_file(folder / TENSORS), json.loads((folder / STATE).read_bytes()))
        except FileNotFoundError as error:
            return f"is not whole ({Path(error.filename).name} is missing)"
        except (OSError, ValueError, KeyError, AttributeError) as error:
            return f"cannot be read ({error})"

    def _path(self, step: int) -> Path:
        return self._folder / f"{_PREFIX}{step:08d}"

    def _steps(self) -> list[int]:
        """Steps of all checkpoints there are, oldest first."""
        numbers = (path.name.removeprefix(_PREFIX) for path in self._folder.glob(f"{_PREFIX}*"))
        return sorted(int(number) for number in numbers if number.isdigit())


def _entry(name: str, tensor: torch.Tensor) -> TensorEntry:
    return TensorEntry(name, tuple(tensor.shape), tensor.dtype, lambda: tensor)
