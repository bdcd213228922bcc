"""From tensors in the page cache to a checkpoint that counts: fsync, hash, marker, rename. Runs on any thread."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arriero.artifacts.commit import commit_folder, fsync_path, write_json_atomic
from arriero.training.checkpoints.layout import (
    FORMAT,
    LAYOUT,
    MARKER,
    STATE,
    dump_layout,
    rank_file,
    tensor_file,
)
from arriero.training.checkpoints.writer import SafetensorsWriter

PATIENCE_SECONDS = 600.0
"""How long the first rank waits for the others' files to reach the disk."""
_BLOCK = 4 << 20
_POLL_SECONDS = 0.02

Record = dict[str, dict[str, Any]]
"""File -> {"bytes", "sha256"}."""


@dataclass(frozen=True)
class Commit:
    """What is left to do when every rank has handed over its tensors.

    The ranks meet through the folder, not through the process group: this runs while training uses the group.

    Attributes:
        partial: the folder being written; ``final``: what it becomes.
        step: optimizer steps done.
        loss: held-out loss of these weights, where it was measured.
        state: of the whole run (JSON); ``own``: of this rank alone.
        rank, size: of the process group.
    """

    partial: Path
    final: Path
    step: int
    loss: float | None
    writer: SafetensorsWriter
    state: dict[str, Any]
    own: dict[str, Any]
    rank: int
    size: int

    def run(self, beat: Callable[[], None]) -> None:
        """Do it; on the first rank the checkpoint is complete afterwards.

        Raises:
            OSError: the disk is full or broken, on any rank; or a rank did not finish in time.
        """
        try:
            self.writer.rest()
            record = self._sealed(beat, {rank_file(self.rank): self.own}, tensor_file(self.rank))
        except OSError as error:
            if self.rank:
                self._tell({"error": error.strerror or str(error)})
            raise
        if self.rank:
            self._tell(record)
            return
        for rank in range(1, self.size):
            record |= self._heard(rank)
        assert self.writer.metadata is not None
        layout = dump_layout(self.writer.metadata, self.writer.files)
        record |= self._sealed(beat, {STATE: self.state, LAYOUT: layout})
        marker = {"format": FORMAT, "step": self.step, "ranks": self.size, "loss": self.loss, "files": record}
        write_json_atomic(self.partial / MARKER, marker)
        commit_folder(self.partial, self.final)

    def _sealed(self, beat: Callable[[], None], values: dict[str, dict[str, Any]], *others: str) -> Record:
        """Write ``values`` as JSON files; size and hash of them and of ``others``, which are on the disk then."""
        for name, value in values.items():
            (self.partial / name).write_bytes(json.dumps(value).encode())
        record = {}
        for name in (*values, *others):
            path = self.partial / name
            fsync_path(path)
            record[name] = {"bytes": path.stat().st_size, "sha256": hashed(path, beat)}
        return record

    def _tell(self, value: dict[str, Any]) -> None:
        write_json_atomic(self._message(self.rank), value)

    def _heard(self, rank: int) -> Record:
        path, deadline = self._message(rank), time.monotonic() + PATIENCE_SECONDS
        while not path.exists():
            if time.monotonic() > deadline:
                raise OSError(f"rank {rank} has not written its part within {PATIENCE_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)
        record: Record = json.loads(path.read_bytes())
        if "error" in record:
            raise OSError(f"rank {rank}: {record['error']}")
        path.unlink()
        return record

    def _message(self, rank: int) -> Path:
        return self.partial / f"rank-{rank:05d}.written"


def hashed(path: Path, beat: Callable[[], None] = lambda: None) -> str:
    """Hex SHA-256 of a file; ``beat`` is called after every few MiB."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            beat()
    return digest.hexdigest()
