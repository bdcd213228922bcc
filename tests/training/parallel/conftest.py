"""Groups of processes that train tiny models together, started once for several cases."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

WORKER = Path(__file__).parent / "worker.py"
Case = dict[str, Any]
Together = Callable[[int, list[Case]], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def worker() -> ModuleType:
    """The script that the processes run, to run a case in this process too."""
    spec = importlib.util.spec_from_file_location("parallel_worker", WORKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def variables(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun would set."""
    own = {
        "RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port, "OMP_NUM_THREADS": 1,
    }  # fmt: skip
    return {**os.environ, **{name: str(value) for name, value in own.items()}}


@pytest.fixture(scope="session")
def together(warm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Together:
    """``together(size, cases)``: the result of each case, run one after the other by ``size`` processes."""

    def run(size: int, cases: list[Case]) -> list[dict[str, Any]]:
        root = tmp_path_factory.mktemp("group")
        for number, case in enumerate(cases):
            case.setdefault("folder", str(root / str(case.get("shares", number))))
            case["result"] = str(root / f"{number}.pt")
            Path(case["folder"]).mkdir(exist_ok=True)
        (root / "cases.json").write_text(json.dumps(cases))
        port, command = free_port(), [str(warm_python), str(WORKER), str(root / "cases.json")]
        processes = [
            subprocess.Popen(command, env=variables(rank, size, port), stderr=subprocess.PIPE, text=True)
            for rank in range(size)
        ]
        try:
            said = [process.communicate(timeout=1100)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        missing = [case for case in cases if not Path(case["result"]).exists()]
        assert not missing, f"no result of {missing}: {said[0][-3000:]}"
        return [torch.load(case["result"], weights_only=True) for case in cases]

    return run
