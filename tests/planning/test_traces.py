"""What was traced is kept: the same figures without torch, never those of other code."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.planning.small_models import small

from arriero.planning.counts import traces
from arriero.planning.counts.subject import Subject
from arriero.planning.counts.traces import remembered

SUBJECT = Subject("causal", 16, 16, None, "fp32", 0, "all-linear", "fp32", "adamw", True)
ASK = ["estimate", "gpt2", "--hardware", "h100", "--tokens", "1B", "--context", "64", "--json"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARRIERO_HOME", str(tmp_path))
    return tmp_path / "traces"


def test_it_is_made_once(home: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, float]:
        made.append(1)
        return {"a": 0.1 + 0.2, "most": float("inf")}

    first = remembered(small("llama"), SUBJECT, "counts", make)
    assert (
        remembered(small("llama"), SUBJECT, "counts", make) == first == {"a": 0.1 + 0.2, "most": float("inf")}
    )
    assert len(made) == 1 and len(list(home.iterdir())) == 1
    remembered(small("llama"), SUBJECT, "memory none", make)
    remembered(small("gpt2"), SUBJECT, "counts", make)
    assert len(made) == 3, "another part, another model: neither is the first one's"


def test_other_code_asks_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered(small("llama"), SUBJECT, "counts", lambda: 1)
    monkeypatch.setattr(traces, "code_hash", lambda: "changed")
    assert remembered(small("llama"), SUBJECT, "counts", lambda: 2) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"format": "other", "found": 7}'])
def test_a_damaged_file_is_made_anew(home: Path, damage: bytes) -> None:
    remembered(small("llama"), SUBJECT, "counts", lambda: 1)
    (path,) = home.iterdir()
    path.write_bytes(damage)
    assert remembered(small("llama"), SUBJECT, "counts", lambda: 2) == 2
    assert json.loads(path.read_bytes())["found"] == 2


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ARRIERO_HOME", str(tmp_path / "file" / "below"))
    assert remembered(small("llama"), SUBJECT, "counts", lambda: 1) == 1


def test_old_ones_go_when_there_are_many(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_ENTRIES", 4)
    for number in range(6):
        remembered(small("llama"), SUBJECT, f"part {number}", lambda: 1)
    assert len(list(home.iterdir())) <= 4


def test_a_question_asked_before_is_answered_alike_in_two_seconds_without_torch(tmp_path: Path) -> None:
    """CPU seconds, of which it takes a third on a quiet machine."""
    code = "import sys; from arriero.cli import main; sys.argv = ['arriero', *sys.argv[1:]]\ntry: main()\nfinally: sys.stderr.write('torch' if 'torch' in sys.modules else 'light')"
    found = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", code, *ASK], env={**os.environ, "ARRIERO_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        found.append((done.stdout, done.stderr[-5:], seconds))
    (first, _, _), (second, loaded, seconds) = found
    assert json.loads(first) == json.loads(second)
    assert loaded == "light"
    assert seconds < 4, f"{seconds:.1f} CPU seconds"
