"""Loading streams: the peak of memory is the model and little more, in one file or in shards, cast or fused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import sys
from pathlib import Path
from arriero.models.checkpoint import load_model

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

def now():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])

small, large, dtype = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
load_model(small)
Path("/proc/self/clear_refs").write_text("5")
before = now()
model = load_model(large, dtype=dtype)
weights = sum(p.numel() * p.element_size() for p in model.parameters())
print((peak() - before) / weights)
"""

WRITE = """
import sys
from pathlib import Path
from arriero.models.checkpoint import build_model, save_model
from arriero.models.preset import get_preset

folder, family = Path(sys.argv[1]), sys.argv[2]
name = {"llama": "smollm2-135m", "gpt2": "gpt2"}[family]
config = get_preset(name).config
for place, layers in (("small", 1), ("large", 12)):
    changes = {"n_layers": layers, "vocab_size": 4096, "context_length": 256}
    model = build_model(config.model_copy(update=changes))
    for parameter in model.parameters():
        parameter.data.fill_(0.5)
    save_model(model, folder / place, sys.argv[3], shard_bytes=40_000_000)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
@pytest.mark.parametrize(
    ("family", "stored", "loaded"),
    [("llama", "bfloat16", "bfloat16"), ("gpt2", "float32", "float32"), ("llama", "bfloat16", "float32")],
)
def test_peak_of_loading(family: str, stored: str, loaded: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE, str(tmp_path), family, stored], check=True)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "large"), loaded]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert 0.9 <= float(told) <= 1.2
