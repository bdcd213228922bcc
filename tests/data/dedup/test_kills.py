"""De-duplication in processes that are killed at random moments leaves the bytes of one that was not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import (
    Dedup,
    DuplicateBooks,
    DuplicateLines,
    DuplicateSpans,
    SemanticDuplicates,
)
from arriero.data.execute import ExecutorSettings, make_executor

SETTINGS = Dedup(
    lines=DuplicateLines(),
    paragraphs=DuplicateLines(),
    substring=DuplicateSpans(method="windows"),
    books=DuplicateBooks(min_words=500),
    semantic=SemanticDuplicates(),
)
PROGRAM = """
import sys
from pathlib import Path
from arriero.data.dedup import steps
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import Dedup
from arriero.data.execute import ExecutorSettings, make_executor
folder, kind, workers = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if kind == "pool":
    steps.SMALL = 0
executor = make_executor(ExecutorSettings(kind=kind, workers=int(workers)))
print("ready", flush=True)
parts = sorted((folder / "parts").iterdir(), reverse=True)
run_dedup(parts, Dedup.model_validate_json(sys.argv[4]), executor, folder / "killed")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills", "longest"), [("inline", 12, 1.0), ("pool", 6, 4.0)])
def test_kills_change_nothing(
    corpus: ModuleType, tmp_path: Path, kind: str, kills: int, longest: float
) -> None:
    draw = random.Random(3)
    texts = [corpus.prose(draw.randint(50, 700), n % 40) + "\n" + corpus.prose(30, n) for n in range(200)]
    texts += texts[::7]
    corpus.write_parts(tmp_path / "parts", [texts[start : start + 30] for start in range(0, len(texts), 30)])
    parts = list((tmp_path / "parts").iterdir())
    settings = SETTINGS if kind == "inline" else Dedup(lines=DuplicateLines())
    report = run_dedup(parts, settings, make_executor(ExecutorSettings(kind="inline")), tmp_path / "whole")
    assert len(report.total.dropped) >= 2, "there is something to find"
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), kind, "1" if kind == "inline" else "2"]
    killed = 0
    for _ in range(60):
        process = subprocess.Popen([*command, settings.model_dump_json()], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        if killed < kills:
            time.sleep(draw.uniform(0, longest))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            if process.returncode == 0:
                break  # it came through between two kills
        elif process.wait(120) == 0:
            break
    assert killed > 2
    assert corpus.corpus_files(tmp_path / "whole") == corpus.corpus_files(tmp_path / "killed")
