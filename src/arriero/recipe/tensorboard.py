"""Metrics for TensorBoard, written beside the JSON lines when one asks for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from arriero.errors import ArrieroError

FOLDER = "tensorboard"


def writer_class() -> Any:
    """TensorBoard's own writer of event files; needs neither torch nor TensorFlow.

    Raises:
        ArrieroError: TensorBoard is not installed.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise ArrieroError(
            "--tensorboard needs TensorBoard: pip install 'arriero[tensorboard]'; metrics.jsonl is written anyway"
        ) from None
    return Writer


class EventFile:
    """Event files of one stage in ``folder``, always with each step once.

    A resumed run repeats the steps after its last checkpoint; its first line makes the files anew from the lines of
    the metrics file that still hold.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._class = writer_class()
        self._writer: Any = None

    def add(self, line: Mapping[str, Any], before: Callable[[], list[dict[str, Any]]]) -> None:
        """Write a line of metrics; ``before`` gives the lines before it, and is asked at the first call alone."""
        if self._writer is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._writer = self._class(str(self._folder))
            for earlier in before():
                self._write(earlier)
        self._write(line)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        step = line.get("step")
        if not isinstance(step, int):
            return
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(name, value, step)
