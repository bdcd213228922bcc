"""Every command block that README.md or docs/ mark as runnable is run, in order, in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(sh|python) run\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNNABLE = [page for page in PAGES if BLOCK.search(page.read_text())]


def test_there_is_something_to_run() -> None:
    assert ROOT / "README.md" in RUNNABLE and ROOT / "docs" / "recipes.md" in RUNNABLE


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_every_marked_command_runs(
    page: Path,
    tmp_path: Path,
    smoke_run: Path,
    cli_environment: dict[str, str],
    commands: Path,
    warm_cli: ModuleType,
) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copytree(
        smoke_run, tmp_path / "runs" / "smoke", symlinks=True
    )  # so that reuse keeps the test short
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    warm_cli.write_client(bin_folder / "arriero", commands)
    environment = {**cli_environment, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    for language, body in BLOCK.findall(page.read_text()):
        command = ["sh", "-eu", "-c", body] if language == "sh" else [sys.executable, "-c", body]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=560, check=False
        )
        assert done.returncode == 0, f"{page.name}:\n{body}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.slow
def test_the_stage_of_the_docs_works_with_one_file_and_one_line(
    arriero, smoke_run: Path, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "adding-a-stage.md").read_text()
    code = re.search(r"^```python stage\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert code is not None
    # an installed package adds its line through the entry point group; the file is the same
    package = tmp_path / "plugin"
    (package / "longest-1.0.dist-info").mkdir(parents=True)
    (package / "longest.py").write_text(code.group(1))
    (package / "longest-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: longest\nVersion: 1.0\n"
    )
    (package / "longest-1.0.dist-info" / "entry_points.txt").write_text(
        "[arriero.stages]\nlongest = longest\n"
    )
    env = {"PYTHONPATH": str(package)}
    assert "--keep" in arriero("longest", "--help", **env).stdout
    done = arriero(
        "longest", "--corpus", smoke_run / "corpus", "--keep", "3", "--out", tmp_path / "out", **env
    )
    assert "unknown" in done.stdout, "its seconds were never measured, so the plan says so"
    assert (
        "6 documents" in arriero("show", tmp_path / "out", **env).stdout
        or (tmp_path / "out" / "manifest.json").exists()
    )
