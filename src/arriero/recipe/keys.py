"""A stage's key: what decides whether its artifact can be used again."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from arriero.artifacts import InputPath, InputTree
from arriero.artifacts.hashing import sha256_file, sha256_json
from arriero.artifacts.manifest import SourceRecord
from arriero.artifacts.paths import raw_files
from arriero.errors import ArrieroError
from arriero.stage import Stage, StageSettings


@lru_cache(maxsize=4096)
def _hash_unchanged(path: str, size: int, mtime_ns: int) -> str:
    return sha256_file(Path(path))


def file_hash(path: Path) -> str:
    """SHA-256 of a raw file; hashed once while its size and time stamp stay.

    Raises:
        ArrieroError: it is not there or cannot be read.
    """
    try:
        stat = path.stat()
        if not path.is_file():
            raise ArrieroError(f"{path} is not a file")
        return _hash_unchanged(str(path), stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError:
        raise ArrieroError(f"{path}: no such file") from None
    except PermissionError:
        raise ArrieroError(f"{path}: may not be read") from None


def _in_key(model: BaseModel) -> dict[str, Any]:
    """Fields that decide on the result. A field marked ``in_key: False`` says how, not what (e.g. how often to save)."""
    kept = {}
    for name, field in type(model).model_fields.items():
        extra = field.json_schema_extra
        if not (isinstance(extra, dict) and extra.get("in_key") is False):
            kept[name] = _plain(getattr(model, name))
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, InputTree) and not value.is_file():
        return {name: f"sha256:{file_hash(path)}" for name, path in value.files()}
    if isinstance(value, InputPath):
        return f"sha256:{file_hash(value)}"
    if isinstance(value, BaseModel):
        return _in_key(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return to_jsonable_python(value)


def stage_key(stage: Stage[Any], settings: StageSettings, inputs: dict[str, list[str]]) -> str:
    """Hex key from the kind, its version, the resolved settings and the content hashes of all inputs."""
    return sha256_json(
        {"kind": stage.kind, "version": stage.version, "settings": _in_key(settings), "inputs": inputs}
    )


def source_records(settings: StageSettings) -> list[SourceRecord]:
    """Size and hash of every raw file that the settings name."""
    records = []
    for path in raw_files(settings):
        sha256 = file_hash(path)  # complains clearly about a file that is not there
        records.append(SourceRecord(path=str(path), bytes=path.stat().st_size, sha256=sha256))
    return records
