"""What was traced before, kept on disk: a question about a shape that was asked about already needs no torch.

An entry lies under the hash of everything that decides on it: the shape, what is done with it, the code that is traced
and the versions it runs with. So nothing ever has to be declared out of date; a changed line of a model's code asks anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from arriero.artifacts.commit import write_bytes_atomic
from arriero.artifacts.hashing import sha256_json
from arriero.cost.device import profile_path
from arriero.models.config import ModelConfig
from arriero.native import library
from arriero.planning.counts.subject import Subject
from arriero.products import float32_library

FORMAT = "arriero.trace/1"
MOST_ENTRIES = 1000
"""Files kept, of some kilobytes each; the oldest half goes when there are more."""
_TRACED = ("cost", "models", "planning/counts", "planning/memory", "training", "tuning", "products.py")
"""Code that a trace runs through or that reads it."""


def remembered(config: ModelConfig, subject: Subject, part: str, make: Callable[[], Any]) -> Any:
    """What ``make`` gives as data (JSON), from the disk where it was made before; made and kept where not.

    A folder that cannot be written to and a file that cannot be read cost nothing but the time of making it.
    """
    path = folder() / f"{_key(config, subject, part)}.json"
    found = _read(path)
    if found is None:
        found = make()
        with suppress(OSError):
            write_bytes_atomic(path, json.dumps({"format": FORMAT, "part": part, "found": found}).encode())
            _thin_out(path.parent)
    return found


def folder() -> Path:
    """Where they lie: beside this machine's profile."""
    return profile_path().parent / "traces"


def _key(config: ModelConfig, subject: Subject, part: str) -> str:
    return sha256_json(
        {
            "format": FORMAT, "config": config.model_dump(mode="json"), "kind": type(config).__name__, "subject": vars(subject),
            "part": part, "code": code_hash(), "torch": _version("torch"), "products": float32_library(),
            "native": [library.level(), library.rounds_activations_to_bf16()],
        }
    )  # fmt: skip


def _read(path: Path) -> Any:
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return kept.get("found") if isinstance(kept, dict) and kept.get("format") == FORMAT else None


@cache
def code_hash() -> str:
    """SHA-256 over the source files that decide on a trace."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for part in _TRACED:
        path = root / part
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _thin_out(where: Path) -> None:
    files = list(where.glob("*.json"))
    if len(files) > MOST_ENTRIES:
        for file in sorted(files, key=lambda file: file.stat().st_mtime)[: len(files) // 2]:
            file.unlink(missing_ok=True)
