from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from arriero.data.execute.tasks import Task


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Work functions in a module that worker processes can import too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import exe_work  # type: ignore[import-not-found]

    return exe_work


@pytest.fixture
def squares(tmp_path: Path) -> Any:
    """``squares(count, poison=index)``: tasks that write a file each, the one at ``poison`` a deadly one."""
    folder = tmp_path / "out"
    folder.mkdir()

    def make(count: int, poison: int | None = None) -> list[Task]:
        payloads: list[Any] = ["poison" if number == poison else number for number in range(count)]
        return [Task(f"split-{n:03d}", (str(folder), payload), 1000) for n, payload in enumerate(payloads)]

    return make
