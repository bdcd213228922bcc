"""Reading artifacts: open, verify, trace back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from arriero.artifacts.hashing import sha256_file
from arriero.artifacts.manifest import MANIFEST, FileRecord, LicenseRecord, Manifest
from arriero.errors import DamagedArtifactError


@dataclass(frozen=True)
class Artifact:
    """A committed artifact: its folder and its manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path, *, hashes: bool = False) -> Artifact:
        """Open the artifact at ``path`` and check its files' sizes, and with ``hashes`` their SHA-256.

        Raises:
            ArrieroError: not an artifact.
            DamagedArtifactError: a file is missing, cut short or changed.
        """
        artifact = cls(path.resolve(), Manifest.read(path))
        artifact.verify(hashes=hashes)
        return artifact

    def verify(self, *, hashes: bool) -> None:
        """Compare the files with the manifest; the first difference is raised as DamagedArtifactError."""
        for record in self.manifest.files:
            file = self.path / record.path
            remedy = f"remove the folder {self.path} and run again to remake it"
            if not file.is_file():
                raise DamagedArtifactError(f"{file} is missing; {remedy}")
            size = file.stat().st_size
            if size != record.bytes:
                raise DamagedArtifactError(
                    f"{file} has {size:,} bytes, its manifest says {record.bytes:,}; {remedy}"
                )
            if hashes and sha256_file(file) != record.sha256:
                raise DamagedArtifactError(f"{file} was changed: its SHA-256 is not the manifest's; {remedy}")

    def file(self, name: str) -> Path:
        """Path of a file of this artifact."""
        return self.path / name

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def bytes(self) -> int:
        """Bytes on disk of the content files (logs left out)."""
        return sum(record.bytes for record in self.manifest.files if not record.path.startswith("logs/"))

    def inputs(self) -> Iterator[tuple[str, Path]]:
        """(role, folder) of each input artifact, as far as they still lie where they were."""
        for record in self.manifest.inputs:
            yield record.role, (self.path / record.path).resolve()


def list_files(folder: Path) -> list[FileRecord]:
    """Records of every file below ``folder`` but the manifest, in name order."""
    return [
        FileRecord(
            path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=sha256_file(path)
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    ]


def merge_licenses(*groups: list[LicenseRecord]) -> list[LicenseRecord]:
    """All licences of several lists, each once, in order of first appearance."""
    seen: dict[tuple[str, str], LicenseRecord] = {}
    for group in groups:
        for record in group:
            seen.setdefault((record.name, record.of), record)
    return list(seen.values())
