from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arriero.alignment.dpo import DpoSettings, render_pairs
from arriero.alignment.reference import reference_log_probs
from arriero.artifacts import Artifact, Manifest
from arriero.data.conversations import Preference
from arriero.errors import ArrieroError, Interrupted
from arriero.models.checkpoint import load_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.stage import get_stage
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training.model_folder import write_model_folder
from arriero.training.precision import Arithmetic

STAGE = get_stage("dpo")


class RunContext:
    def __init__(self, root: Path, stop_after: int | None = None) -> None:
        self.folder, self.state, self.seed = root / "folder", root / "state", 1
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(exist_ok=True)
        self.said: list[str] = []
        self.steps: list[tuple[str, float]] = []
        self.stop_after = stop_after

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        self.steps.append((unit, done))

    def log(self, **figures: Any) -> None:
        json.dumps(figures)

    def say(self, line: str) -> None:
        self.said.append(line)

    def stop_requested(self) -> bool:
        return self.stop_after is not None and ("steps", self.stop_after) in self.steps

    def count_flops(self, flops: float) -> None:
        assert flops >= 0


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(sample_texts(20_000), 300, "llama3", 2)


@pytest.fixture(scope="module")
def base(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("base")
    model = Decoder(
        DecoderConfig.model_validate(
            {"vocab_size": tokenizer.vocab_size, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
             "d_ff": 64, "context_length": 96, "init_std": 0.1}
        )
    )  # fmt: skip
    model.init_weights(0)
    spec = write_model_folder(model, tokenizer, folder)
    manifest = Manifest(
        name="base", kind="sft", makes="model", key="k", stage_version=1, settings={}, seed=0,
        spec=spec.model_dump(), started="", ended="",
    )  # fmt: skip
    return Artifact(folder, manifest)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Polite answers are preferred."""
    path = tmp_path / "pairs.jsonl"
    records = [
        {"prompt": f"Give me {i}.", "chosen": f"Yes, {i}.", "rejected": f"Not {i}!"} for i in range(60)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def settings(data: Path) -> Callable[..., DpoSettings]:
    values = {"data": [data], "duration": "3 epochs", "learning_rate": 3e-3, "precision": "fp32", "threads": 1,
              "holdout_share": 0.25, "batch_size": 8, "micro_batch_size": 4}  # fmt: skip
    return lambda **changes: DpoSettings.model_validate({**values, **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"lora_rank": 4, "lora_dropout": 0.1}, {"nll_coef": 0.2, "label_smoothing": 0.1}]
)
def test_held_out_preferences_are_learnt(
    base: Artifact, settings: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    context = RunContext(tmp_path / "run")
    outcome = STAGE.run(settings(**changes), {"model": base}, context)
    found = outcome.facts["heldout_preference"]
    before, after = found["before"], found["after"]
    assert before["preference_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert before["margin"] == pytest.approx(0.0, abs=1e-5)
    assert after["preference_accuracy"] > 0.9
    assert after["reward_accuracy"] > 0.9 and after["margin"] > 0.2
    assert (
        after["chosen_logprob"] - after["rejected_logprob"]
        > before["chosen_logprob"] - before["rejected_logprob"]
    )
    assert outcome.facts["data"]["pairs"] + outcome.facts["heldout_data"]["pairs"] == 60
    assert "in answers" in context.said[0]
    assert (context.folder / "adapter").exists() == ("lora_rank" in changes)
    load_model(context.folder)


def test_bf16_keeps_the_first_loss_at_ln_2(base: Artifact, settings: Any, tmp_path: Path) -> None:
    outcome = STAGE.run(
        settings(precision="bf16", duration="2 steps"), {"model": base}, RunContext(tmp_path / "run")
    )
    assert outcome.facts["precision"] == "bf16"


def test_a_stopped_run_ends_with_the_same_bits(base: Artifact, settings: Any, tmp_path: Path) -> None:
    whole = RunContext(tmp_path / "whole")
    STAGE.run(settings(), {"model": base}, whole)
    with pytest.raises(Interrupted):
        STAGE.run(settings(), {"model": base}, RunContext(tmp_path / "stopped", stop_after=5))
    resumed = RunContext(tmp_path / "stopped")
    STAGE.run(settings(), {"model": base}, resumed)
    assert "pairs" not in {unit for unit, _ in resumed.steps}, "the reference was kept"
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_wrong_reference_is_refused_before_anything_is_learnt(
    base: Artifact, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the policy was changed after its reference was taken."""
    from arriero.alignment import reference

    right = reference.reference_log_probs
    monkeypatch.setattr(reference, "reference_log_probs", lambda *rest: right(*rest) * 0.99)
    with pytest.raises(ArrieroError, match=r"first DPO loss is .*, not ln 2"):
        STAGE.run(settings(), {"model": base}, RunContext(tmp_path / "run"))


def test_the_reference_is_kept_for_these_weights_and_rows_only(
    base: Artifact, settings: Any, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    model, context, arithmetic = load_model(base.path), RunContext(tmp_path / "run"), Arithmetic("fp32", 1)
    pairs, _ = render_pairs([Preference([{"role": "user", "content": "?"}], "yes", "no")], tokenizer, 96)

    def kept() -> int:
        return len(list(context.state.glob("reference-*")))

    first = reference_log_probs(model, pairs, settings(), arithmetic, context)
    assert (
        torch.equal(reference_log_probs(model, pairs, settings(), arithmetic, context), first) and kept() == 1
    )
    with torch.no_grad():
        model.norm.weight.mul_(1.5)
    assert (
        not torch.equal(reference_log_probs(model, pairs, settings(), arithmetic, context), first)
        and kept() == 2
    )
    reference_log_probs(model, pairs, settings(), Arithmetic("bf16", 1), context)
    reference_log_probs(model, pairs * 2, settings(), arithmetic, context)
    assert kept() == 4
    newest = max(context.state.glob("reference-*"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:20])
    assert torch.isfinite(reference_log_probs(model, pairs * 2, settings(), arithmetic, context)).all()


def test_only_the_last_answer_is_scored(tokenizer: Tokenizer) -> None:
    prompt = [
        {"role": "user", "content": "One?"}, {"role": "assistant", "content": "First."}, {"role": "user", "content": "Two?"},
    ]  # fmt: skip
    pairs, counts = render_pairs([Preference(prompt, "Second.", "Nothing.")], tokenizer, 96)
    scored = pairs[0].chosen.ids[pairs[0].chosen.mask]
    assert tokenizer.decode(scored.tolist()) == "Second." and scored[-1] == tokenizer.end_of_turn_id
    assert counts["answer_tokens"] == int(pairs[0].chosen.mask.sum() + pairs[0].rejected.mask.sum())
    shared = int(np.argmax(pairs[0].chosen.mask))
    assert (pairs[0].chosen.ids[:shared] == pairs[0].rejected.ids[:shared]).all()


def test_pairs_cut_before_an_answer_are_dropped_and_equal_answers_left_out(
    tokenizer: Tokenizer, base: Artifact, settings: Any, tmp_path: Path
) -> None:
    long = Preference([{"role": "user", "content": "a b " * 60}], "x", "y")
    assert render_pairs([long], tokenizer, 30)[1]["dropped"] == 1
    same = tmp_path / "same.jsonl"
    same.write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}\n')
    with pytest.raises(ArrieroError, match="none is left to train on"):
        STAGE.run(settings(data=[same]), {"model": base}, RunContext(tmp_path / "run"))
