"""Shared by all tests: the command line as a subprocess, and one finished run of the smoke recipe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arriero.process import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before any test loads torch

ROOT = Path(__file__).resolve().parent.parent
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder with pyproject.toml, README.md and recipes/."""
    return ROOT


@pytest.fixture(scope="session")
def cli_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a user who has never run Arriero: its own device profile, no colours."""
    home = tmp_path_factory.mktemp("arriero-home")
    return {
        **os.environ,
        "ARRIERO_HOME": str(home),
        "NO_COLOR": "1",
        "COLUMNS": "160",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture(scope="session")
def arriero(cli_environment: dict[str, str]) -> Cli:
    """Run the command line: ``arriero("plan", recipe, cwd=...)``; expects exit code 0 unless ``code`` is given."""

    def call(
        *args: object, cwd: Path | None = None, code: int = 0, timeout: float = 280, **env: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "arriero", *map(str, args)], cwd=cwd, timeout=timeout,
            env={**cli_environment, **env}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, (
            f"exit code {done.returncode}, expected {code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        assert code == 1 or "Traceback" not in done.stderr, done.stderr
        return done

    return call


@pytest.fixture(scope="session")
def smoke_run(arriero: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of recipes/smoke.yaml, shared by the tests that only look at it."""
    out = tmp_path_factory.mktemp("smoke") / "run"
    done = arriero("run", ROOT / "recipes" / "smoke.yaml", "--out", out)
    (out / "stdout.txt").write_text(done.stdout)
    (out / "stderr.txt").write_text(done.stderr)
    return out
