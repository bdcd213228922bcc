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
folder, kind, workers, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[5]
if kind == "pool":
    steps.SMALL = 0
executor = make_executor(ExecutorSettings(kind=kind, workers=int(workers)))
print("ready", flush=True)
parts = sorted((folder / "parts").iterdir(), reverse=True)
run_dedup(parts, Dedup.model_validate_json(sys.argv[4]), executor, folder / out)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("inline", 10), ("pool", 5)])
def test_kills_change_nothing(corpus: ModuleType, tmp_path: Path, kind: str, kills: int) -> None:
    draw = random.Random(3)
    texts = [corpus.prose(draw.randint(50, 700), n % 40) + "\n" + corpus.prose(30, n) for n in range(200)]
    texts += texts[::7]
    corpus.write_parts(tmp_path / "parts", [texts[start : start + 30] for start in range(0, len(texts), 30)])
    parts = list((tmp_path / "parts").iterdir())
    settings = SETTINGS if kind == "inline" else Dedup(lines=DuplicateLines())
    report = run_dedup(parts, settings, make_executor(ExecutorSettings(kind="inline")), tmp_path / "whole")
    assert len(report.total.dropped) >= 2, "there is something to find"
    whole = corpus.corpus_files(tmp_path / "whole")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), kind, "1" if kind == "inline" else "2"]
    command.append(settings.model_dump_json())
    started = time.monotonic()
    assert run(command, "timed") == 0
    seconds = time.monotonic() - started  # with the start of the interpreter, so somewhat too long
    killed = 0
    for number in range(6 * kills):
        out = f"killed{number}"
        while killed < kills and run(command, out, draw.uniform(0, 0.5) * seconds) != 0:
            killed += 1
        assert run(command, out) == 0
        assert corpus.corpus_files(tmp_path / out) == whole
        if killed == kills:
            return
    pytest.fail(f"only {killed} kills fell into a run")


def run(command: list[str], out: str, kill_after: float | None = None) -> int:
    """The exit status; the process is killed so many seconds after it has begun its work."""
    process = subprocess.Popen([*command, out], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    try:
        return process.wait(120 if kill_after is None else kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait()
