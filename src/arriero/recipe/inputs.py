"""Inputs of a stage that lie outside the run: artifacts of other runs, and plain Hugging Face folders."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from arriero.artifacts import Artifact, LicenseRecord, Manifest
from arriero.artifacts.artifact import list_files
from arriero.artifacts.manifest import MANIFEST
from arriero.errors import ArrieroError
from arriero.stage import ArtifactType, ModelSpec


def open_outside(path: Path, want: ArtifactType) -> Artifact:
    """The artifact at ``path``; a plain Hugging Face model folder counts as a model whose history is unknown.

    Raises:
        ArrieroError: not there, or not of the type that is wanted.
    """
    if not path.is_dir():
        raise ArrieroError(f"{path}: no such folder")
    if (path / MANIFEST).exists():
        artifact = Artifact.open(path, hashes=True)
    elif want == "model" and (path / "config.json").exists():
        artifact = _plain_model(path)
    else:
        raise ArrieroError(f"{path} is not an artifact: it has no {MANIFEST}")
    if artifact.manifest.makes != want:
        raise ArrieroError(f"{path} is {artifact.manifest.makes}, but {want} is wanted here")
    return artifact


def _plain_model(path: Path) -> Artifact:
    from arriero.models.checkpoint import read_config, read_format

    config = read_config(path)
    n_parameters = sum(config.parameter_counts().values())
    files = list_files(path)
    weights = sum(record.bytes for record in files if record.path.endswith(".safetensors"))
    when = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    spec = ModelSpec(
        config=config.model_dump(mode="json"), n_parameters=n_parameters, weight_bytes=weights, format=read_format(path)
    )  # fmt: skip
    manifest = Manifest(
        name=path.name, kind="huggingface", makes="model", key="", stage_version=0, settings={}, seed=0,
        files=files, spec=spec.model_dump(mode="json"), started=when, ended=when,
        licenses=[LicenseRecord(name="unknown", of=path.name)],
    )  # fmt: skip
    return Artifact(path.resolve(), manifest)
