"""Every way to divide a training gives one process' losses, gradient norms and weights, within fp32 rounding."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

Case = dict[str, Any]


def case(parallel: Case, objective: str = "causal", family: str = "llama", **settings: Any) -> Case:
    return {
        "objective": objective,
        "family": family,
        "settings": {"duration": "12 steps", "eval_every": 6, **settings, "parallel": parallel},
    }


TWO = {
    "replicated": case({"shard": "none"}),
    "sharded": case({}),
    "sharded, uneven rows and micro-batches": case({}, "sft", micro_batch_size=3, batch_size=7),
    "tensor": case({"tensor": 2, "sequence": False}),
    "tensor and sequence": case({"tensor": 2}),
    "tensor and sequence, uneven rows": case({"tensor": 2}, "sft", "gpt2"),
    "tensor, untied head": case({"tensor": 2}, family="untied"),
    "tensor, post-norm without a final norm": case({"tensor": 2}, family="gpt1"),
    "tensor, parallel branches": case({"tensor": 2}, family="falcon"),
    "tensor, alibi": case({"tensor": 2}, family="bloom"),
    "context": case({"context": 2}),
    "context, uneven rows": case({"context": 2}, "sft", "gpt2"),
    "context across documents": case({"context": 2, "shard": "none"}, "unmasked"),
    "context, sliding window": case({"context": 2}, family="mistral"),
    "pipeline": case({"pipeline": 2}),
    "pipeline gpipe, uneven rows": case({"pipeline": 2, "schedule": "gpipe"}, "sft", micro_batch_size=3),
    "pipeline, untied head": case({"pipeline": 2, "microbatches": 4}, family="untied"),
    "sharded, activations computed again": case({}, activation_checkpointing="full"),
    "tensor, activations computed again": case({"tensor": 2}, activation_checkpointing="selective"),
    "context, activations computed again": case({"context": 2}, activation_checkpointing="full"),
    "pipeline, activations computed again": case({"pipeline": 2}, activation_checkpointing="full"),
    "sharded preferences": case({}, "dpo", learning_rate=1e-4, duration="20 steps", eval_every=10),
    "tensor, preferences": case({"tensor": 2}, "dpo", learning_rate=1e-4, duration="20 steps", eval_every=10),
    "sharded adapters": {**case({}, "sft"), "lora": True},
    "sharded encoder-decoder, smoothed labels": case({}, "smoothed", "transformer"),
    "sharded, every third step computed twice": case({}, health={"recompute_every": 3}, ema_decay=0.9),
    "tensor, every third step computed twice": case(
        {"tensor": 2}, health={"recompute_every": 3}, ema_decay=0.9
    ),
    "sharded adafactor": case({}, optimizer="adafactor", learning_rate=0.03),
    "tensor, adafactor": case({"tensor": 2}, "sft", "gpt2", optimizer="adafactor", learning_rate=0.03),
    "sharded muon": case({}, optimizer="muon"),
    "tensor, muon": case({"tensor": 2}, family="untied", optimizer="muon"),
}
FOUR = {
    "hybrid 2 x 2": case({"replicas": 2}),
    "sharded x tensor": case({"tensor": 2}, "sft"),
    "replicated x tensor": case({"tensor": 2, "shard": "none"}),
    "tensor x context": case({"tensor": 2, "context": 2}),
    "tensor x pipeline": case({"tensor": 2, "pipeline": 2}),
    "tensor x pipeline, stream whole": case({"tensor": 2, "pipeline": 2, "sequence": False}),
    "tensor x pipeline, uneven rows": case({"tensor": 2, "pipeline": 2}, "sft", "gpt2"),
    "tensor x pipeline, alibi": case({"tensor": 2, "pipeline": 2}, family="bloom"),
    "tensor x pipeline, post-norm without a final norm": case({"tensor": 2, "pipeline": 2}, family="gpt1"),
    "tensor x pipeline, sliding window": case(
        {"tensor": 2, "pipeline": 2}, family="mistral", activation_checkpointing="full"
    ),
    "replicated x pipeline": case({"pipeline": 2, "shard": "none"}, "sft"),
    "sharded x context": case({"context": 2}, "sft", batch_size=7),
    "sharded x pipeline": case({"pipeline": 2}),
    "sharded x pipeline gpipe, uneven rows": case(
        {"pipeline": 2, "schedule": "gpipe"}, "sft", "untied", batch_size=7, micro_batch_size=3
    ),
    "context x pipeline, uneven rows": case({"pipeline": 2, "context": 2}, "sft", "gpt2"),
    "context x pipeline, weights whole": case({"pipeline": 2, "context": 2, "shard": "none"}),
    "sharded x tensor, adafactor": case({"tensor": 2}, optimizer="adafactor", learning_rate=0.03),
    "sharded x tensor, muon": case({"tensor": 2}, optimizer="muon"),
    "sharded x pipeline, muon": case({"pipeline": 2}, optimizer="muon"),
    "context over four, alibi": case({"context": 4}, family="bloom"),
}
EIGHT = {"tensor x context x pipeline": case({"tensor": 2, "context": 2, "pipeline": 2}, "sft")}
CASES = {2: TWO, 4: FOUR, 8: EIGHT}


MUON = {"loss": 1e-4, "norm": 3e-4, "weight": 4e-3}
"""Muon's iteration is in bf16, where a difference in fp32's last bit may become one of 2^-8 of an update. A replicated
run, whose matrices are whole, strays as far."""


def difference(a: list[float], b: list[float]) -> float:
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


class Results:
    """Runs a group's cases when the first of them is asked for."""

    def __init__(self, together: Any, worker: ModuleType, folder: Path) -> None:
        self.together, self.worker, self.folder = together, worker, folder
        self.found: dict[int, dict[str, Any]] = {}
        self.alone: dict[str, Any] = {}

    def of(self, size: int, name: str) -> dict[str, Any]:
        if size not in self.found:
            cases = CASES[size]
            results = self.together(size, [copy.deepcopy(one) for one in cases.values()])
            self.found[size] = dict(zip(cases, results, strict=True))
        found: dict[str, Any] = self.found[size][name]
        assert "error" not in found, found["trace"]
        return found

    def single(self, given: Case) -> dict[str, Any]:
        """The same run by one process; the division is left out."""
        plain = copy.deepcopy(given)
        plain["settings"].pop("parallel")
        key = repr(plain)
        if key not in self.alone:
            folder = self.folder / str(len(self.alone))
            folder.mkdir()
            self.alone[key] = self.worker.run({**plain, "folder": str(folder)})
        found: dict[str, Any] = self.alone[key]
        return found


@pytest.fixture(scope="module")
def results(together: Any, worker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(together, worker, tmp_path_factory.mktemp("alone"))


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of a size waits for all of them
@pytest.mark.parametrize(
    ("size", "name"),
    [(size, name) for size, cases in CASES.items() for name in cases],
    ids=lambda value: str(value),
)
def test_a_divided_training_is_one_process_training(results: Results, size: int, name: str) -> None:
    given = CASES[size][name]
    found, alone = results.of(size, name), results.single(given)
    muon = given["settings"].get("optimizer") == "muon"
    tolerance = MUON if muon else {"loss": 3e-6, "norm": 3e-6, "weight": 3e-5}
    assert given["settings"]["duration"] == f"{len(found['loss'])} steps"
    assert alone["loss"][-1] < alone["loss"][0] - 0.004  # it learns, so a step that does nothing is seen
    assert difference(found["loss"], alone["loss"]) < tolerance["loss"]
    assert difference(found["grad_norm"], alone["grad_norm"]) < tolerance["norm"]
    assert len(found["heldout"]) == 3
    assert difference(found["heldout"], alone["heldout"]) < tolerance["loss"]
    assert found["tokens"] == alone["tokens"] and found["flops"] == alone["flops"]
    assert found["weights"].keys() == alone["weights"].keys()
    assert not [line for line in found["said"] if "corruption" in line or "skipped" in line]
    for weight, value in alone["weights"].items():
        if weight.endswith("k_proj.bias"):
            continue  # its true gradient is zero, so AdamW goes where rounding points
        assert found["weights"][weight].shape == value.shape
        assert torch.allclose(found["weights"][weight], value, atol=tolerance["weight"]), weight


def test_two_processes_train_as_one(together: Any, worker: ModuleType, tmp_path: Path) -> None:
    given = case({}, "sft", duration="4 steps", eval_every=0)
    [found] = together(2, [copy.deepcopy(given)])
    assert "error" not in found, found["trace"]
    given["settings"].pop("parallel")
    alone = worker.run({**given, "folder": str(tmp_path)})
    assert difference(found["loss"], alone["loss"]) < 3e-6
    assert all(torch.allclose(found["weights"][n], w, atol=3e-5) for n, w in alone["weights"].items())


@pytest.mark.slow
def test_bfloat16_rounds_as_in_one_process(together: Any, worker: ModuleType, tmp_path: Path) -> None:
    """Products alone are narrow, and only forward: a pipeline's backward pass does not run under autocast."""
    layouts: list[Case] = [{"pipeline": 2}, {"tensor": 2}, {}]
    cases = [{**case(one, "sft", duration="6 steps", eval_every=0), "precision": "bf16"} for one in layouts]
    plain = copy.deepcopy(cases[0])
    plain["settings"].pop("parallel")
    alone = worker.run({**plain, "folder": str(tmp_path)})
    for found in together(2, cases):
        assert "error" not in found, found["trace"]
        assert difference(found["loss"], alone["loss"]) < 2e-3
        assert difference(found["grad_norm"], alone["grad_norm"]) < 5e-3
