"""The run folder: where artifacts, plans, ledger and report of a recipe lie.

runs/quickstart/
  artifacts/pretrain-1a2b3c4d5e6f/   every artifact ever made here, by name and key
  pretrain -> artifacts/pretrain-…   the ones of the latest run, under their stages' names
  plans/plan-….json                  every plan, stored before anything ran
  ledger.jsonl  recipe.yaml  report.html  report.json
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arriero.artifacts import Artifact
from arriero.artifacts.commit import PARTIAL, link_atomic
from arriero.artifacts.manifest import MANIFEST
from arriero.errors import ArrieroError

STATE = ".state"
KEY_CHARS = 12


class RunFolder:
    """Paths inside a run folder, and the look-up of artifacts by key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def plans(self) -> Path:
        return self.path / "plans"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    def create(self) -> None:
        """Make the folder.

        Raises:
            ArrieroError: it cannot be made, or a file is in the way.
        """
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
            self.plans.mkdir(exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ArrieroError(
                f"{self.path}: a file is in the way of the run folder; choose another with --out"
            ) from None
        except PermissionError:
            raise ArrieroError(
                f"{self.path}: may not be written; choose another run folder with --out"
            ) from None

    def final(self, name: str, key: str) -> Path:
        """Where the finished artifact goes."""
        return self.artifacts / f"{name}-{key[:KEY_CHARS]}"

    def find(self, key: str, *, hashes: bool = False) -> Artifact | None:
        """The finished artifact with that key, whatever its stage was called.

        Raises:
            DamagedArtifactError: it is there but not whole.
        """
        for folder in sorted(self.artifacts.glob(f"*-{key[:KEY_CHARS]}")):
            if not folder.name.startswith(".") and (folder / MANIFEST).exists():
                artifact = Artifact.open(folder, hashes=hashes)
                if artifact.manifest.key == key:
                    return artifact
        return None

    def link(self, name: str, artifact: Artifact) -> None:
        """Show the artifact under its stage's name."""
        link_atomic(self.path / name, artifact.path)

    def linked(self, name: str) -> Artifact | None:
        """The artifact of the latest run under that stage's name."""
        return Artifact.open(self.path / name) if (self.path / name / MANIFEST).exists() else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one run at a time; the lock goes with the process, however that ends.

        Raises:
            ArrieroError: another process is running in this folder.
        """
        self.create()
        handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArrieroError(f"{self.path}: another run is at work in this folder") from None
            yield
        finally:
            os.close(handle)


class Workplace:
    """The two temporary siblings of an artifact in the making.

    ``partial`` holds the files of the artifact to be and starts empty; ``state`` holds what lets a killed
    stage go on, and stays until the artifact is committed.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.partial = final.with_name(f".{final.name}{PARTIAL}")
        self.state = final.with_name(f".{final.name}{STATE}")

    def open(self) -> None:
        """Empty the partial folder, keep the state."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        self.state.mkdir(parents=True, exist_ok=True)

    def drop_partial(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)

    def drop_state(self) -> None:
        shutil.rmtree(self.state, ignore_errors=True)
