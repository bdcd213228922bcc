"""What has been scored already, kept in the stage's state folder: a killed evaluation does no model twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.numpy import load, save

from arriero.artifacts.commit import write_bytes_atomic
from arriero.evaluation.scores import Sample

Arrays = dict[str, np.ndarray]


class _Answers(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    answers: list[Sample]


class Cache:
    """Results by (measure, model). A file that cannot be read is made again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, measure: str, model: str) -> bool:
        return self._path(measure, model).exists()

    def arrays(self, measure: str, model: str, make: Callable[[], Arrays]) -> Arrays:
        """The arrays kept under that name, or those that ``make`` gives, which are then kept."""
        path = self._path(measure, model)
        try:
            return dict(load(path.read_bytes()))
        except (FileNotFoundError, SafetensorError, ValueError):
            made = make()
            write_bytes_atomic(
                path, save({name: np.ascontiguousarray(array) for name, array in made.items()})
            )
            return made

    def answers(self, measure: str, model: str, make: Callable[[], list[Sample]]) -> list[Sample]:
        """The same for a model's answers."""
        path = self._path(measure, model)
        try:
            return _Answers.model_validate_json(path.read_bytes()).answers
        except (FileNotFoundError, ValueError):
            made = make()
            write_bytes_atomic(path, _Answers(answers=made).model_dump_json().encode())
            return made

    def _path(self, measure: str, model: str) -> Path:
        """Model names may be any text, so the file has a hash of it."""
        return self._folder / f"{measure}-{hashlib.sha256(model.encode()).hexdigest()[:16]}"
