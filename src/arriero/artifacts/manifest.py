"""`manifest.json`: what an artifact is, what it was made from, and what every file of it must look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arriero.artifacts.hashing import sha256_named
from arriero.errors import ArrieroError, DamagedArtifactError

MANIFEST = "manifest.json"
LOGS = "logs"
"""Sub-folder for evidence (metrics, samples): listed and checked, but not part of the content hash."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Record):
    """One file of an artifact; ``path`` is relative to the artifact's folder."""

    path: str
    bytes: int
    sha256: str


class LicenseRecord(_Record):
    """A licence met on the way from the raw files: whose text, under what, from where."""

    name: str = Field(description="SPDX identifier or the licence's own name; 'unknown' when nobody said")
    of: str = Field(description="what it covers")
    url: str | None = None


class SourceRecord(_Record):
    """A raw file from outside the run that a stage read."""

    path: str
    bytes: int
    sha256: str


class InputRecord(_Record):
    """An artifact that a stage took as input."""

    role: str
    name: str
    kind: str
    key: str
    content: str = Field(description="content hash of the input artifact")
    path: str = Field(description="where it lay, relative to this artifact's folder")


class Manifest(_Record):
    """The facts of one artifact. Written last, so a folder that has it is whole."""

    format: Literal["arriero.artifact/1"] = "arriero.artifact/1"
    name: str
    kind: str
    makes: str
    key: str
    stage_version: int
    settings: dict[str, Any]
    seed: int
    inputs: list[InputRecord] = []
    sources: list[SourceRecord] = []
    files: list[FileRecord] = []
    spec: dict[str, Any] = Field(description="what the stage made, in the terms of its spec")
    facts: dict[str, Any] = Field(default={}, description="what else the stage wants said")
    licenses: list[LicenseRecord] = []
    versions: dict[str, str] = {}
    host: dict[str, Any] = {}
    started: str
    ended: str
    measured: dict[str, Any] = Field(default={}, description="the measured side of the ledger line")

    @property
    def content(self) -> str:
        """Hash of the kind and of every file that is content (logs are evidence, not content)."""
        files = ((f.path, f.sha256) for f in self.files if not f.path.startswith(LOGS + "/"))
        return sha256_named([("kind", self.kind), *files])

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check ``folder/manifest.json``.

        Raises:
            ArrieroError: there is no manifest, so the folder is no artifact.
            DamagedArtifactError: the manifest cannot be understood.
        """
        path = folder / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise ArrieroError(f"{folder} is not an artifact: it has no {MANIFEST}") from None
        except (ValidationError, ValueError) as error:
            first = (
                error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
            )
            where = ".".join(str(part) for part in first["loc"])
            raise DamagedArtifactError(f"{path} cannot be read: {where} {first['msg']}".rstrip()) from None
