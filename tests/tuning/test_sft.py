from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from arriero.artifacts import Artifact, Manifest
from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.stage import ModelSpec, get_stage
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training.model_folder import write_model_folder
from arriero.tuning.sft import SftSettings, render_rows

STAGE = get_stage("sft")


class RunContext:
    def __init__(self, root: Path) -> None:
        self.folder, self.state, self.seed = root / "folder", root / "state", 1
        self.folder.mkdir(parents=True)
        self.state.mkdir()
        self.said: list[str] = []
        self.flops = 0.0

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        assert 0 < done <= (total or done)

    def log(self, **figures: Any) -> None:
        json.dumps(figures)

    def say(self, line: str) -> None:
        self.said.append(line)

    def stop_requested(self) -> bool:
        return False

    def count_flops(self, flops: float) -> None:
        self.flops += flops


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
    """A model artifact with random weights."""
    folder = tmp_path_factory.mktemp("base")
    model = Decoder(
        DecoderConfig.model_validate(
            {"vocab_size": tokenizer.vocab_size, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
             "d_ff": 64, "context_length": 96}
        )
    )  # fmt: skip
    model.init_weights(0)
    spec = write_model_folder(model, tokenizer, folder)
    manifest = Manifest(
        name="base", kind="pretrain", makes="model", key="k", stage_version=1, settings={}, seed=0,
        spec=spec.model_dump(), started="", ended="",
    )  # fmt: skip
    return Artifact(folder, manifest)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    records = [{"prompt": f"What is {i} plus 1?", "response": f"It is {i + 1}."} for i in range(60)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def tune(base: Artifact, data: Path, tmp_path: Path) -> Callable[..., tuple[Any, RunContext]]:
    def run(**settings: Any) -> tuple[Any, RunContext]:
        context = RunContext(tmp_path / f"run{len(list(tmp_path.iterdir()))}")
        values = {"data": [data], "duration": "6 epochs", "learning_rate": 1e-2, "precision": "fp32", "threads": 1,
                  "holdout_share": 0.2, **settings}  # fmt: skip
        outcome = STAGE.run(SftSettings.model_validate(values), {"model": base}, context)
        return outcome, context

    return run


def test_full_tuning_lowers_the_held_out_answer_loss(tune: Any, base: Artifact) -> None:
    outcome, context = tune()
    facts = outcome.facts
    loss = facts["heldout_answer_loss"]
    assert loss["before"] == pytest.approx(math.log(300), rel=0.1)
    assert loss["after"] < 0.5 * loss["before"]
    assert facts["trained_parameters"] == facts["parameters"]
    assert 0 < facts["data"]["supervised_share"] < 1
    assert f"{facts['data']['supervised_share']:.0%} of them supervised" in context.said[0]
    assert context.flops == pytest.approx(facts["flops"])
    assert outcome.spec == ModelSpec.model_validate(base.manifest.spec)
    tuned = load_model(context.folder)
    assert not torch.equal(tuned.embedding.weight, load_model(base.path).embedding.weight)
    assert Tokenizer.load(context.folder).fingerprint == Tokenizer.load(base.path).fingerprint
    ends = json.loads((context.folder / "generation_config.json").read_text())["eos_token_id"]
    assert Tokenizer.load(base.path).end_of_turn_id in ends


def test_lora_leaves_a_merged_model_and_the_adapter(tune: Any, base: Artifact) -> None:
    outcome, context = tune(lora_rank=4, lora_dropout=0.1)
    facts = outcome.facts
    assert facts["trained_parameters"] < 0.3 * facts["parameters"]
    assert facts["heldout_answer_loss"]["after"] < facts["heldout_answer_loss"]["before"] - 0.2
    assert (context.folder / "adapter" / "adapter_model.safetensors").exists()
    assert outcome.spec.n_parameters == base.manifest.spec["n_parameters"]
    before, after = load_model(base.path), load_model(context.folder)
    assert torch.equal(before.embedding.weight, after.embedding.weight), "the embedding was frozen"
    q = [model.blocks[0].attention.q_proj.weight for model in (before, after)]
    assert not torch.equal(*q)


def test_the_plan_is_near_the_run(tune: Any, base: Artifact, data: Path) -> None:
    from types import SimpleNamespace

    settings = SftSettings.model_validate(
        {"data": [data], "duration": "6 epochs", "precision": "fp32", "holdout_share": 0.2}
    )
    device: Any = SimpleNamespace(process_bytes=3e8, bf16_pays=False, rate=lambda name: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arriero.training.traced.seconds", lambda trace, device: trace.flops / 1e9)
        made = STAGE.plan(settings, {"model": ModelSpec.model_validate(base.manifest.spec)}, device)
    outcome, _ = tune()
    assert made.spec == outcome.spec
    assert made.estimate.flops.value == pytest.approx(outcome.facts["flops"], rel=0.35), (
        "lengths are not known beforehand"
    )
    assert made.estimate.peak_memory.value > device.process_bytes
    assert "conversations" in made.notes[0]


def conversation(answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": answer}]


def test_long_rows_are_cut_counted_and_left_open(tokenizer: Tokenizer) -> None:
    rows, counts = render_rows([conversation("a b c " * 40), conversation("d")], tokenizer, 40)
    assert len(rows[0].ids) == 40
    assert counts["truncated"] == 1 and counts["dropped"] == 0
    assert rows[0].ids[-1] != tokenizer.end_of_turn_id
    supervised = [int(i) for i, m in zip(rows[1].ids, rows[1].mask, strict=True) if m]
    assert supervised[-1] == tokenizer.end_of_turn_id and tokenizer.decode(supervised) == "d"


def test_a_row_cut_before_its_answer_is_dropped(tokenizer: Tokenizer) -> None:
    messages = [{"role": "user", "content": "x y z " * 50}, {"role": "assistant", "content": "a"}]
    rows, counts = render_rows([messages], tokenizer, 20)
    assert rows == [] and counts["dropped"] == 1


def test_nothing_supervised_is_an_error_unless_it_was_cut(tokenizer: Tokenizer) -> None:
    with pytest.raises(ArrieroError, match=r"conversation 1 .*no supervised token"):
        render_rows([[{"role": "user", "content": "alone"}]], tokenizer, 40)


def test_a_system_prompt_goes_before_conversations_that_have_none(tune: Any) -> None:
    plain, prompted = tune(duration="1 steps"), tune(duration="1 steps", system_prompt="Be brief.")
    assert prompted[0].facts["data"]["tokens"] > plain[0].facts["data"]["tokens"]
    assert prompted[0].facts["data"]["supervised_tokens"] == plain[0].facts["data"]["supervised_tokens"]


def test_wrong_settings_are_one_line(tune: Any) -> None:
    with pytest.raises(ArrieroError, match="max_length 500 is more than the model's context of 96"):
        tune(max_length=500)
    with pytest.raises(ArrieroError, match="no layer to adapt is called 'q_projj'; did you mean 'q_proj'"):
        tune(lora_rank=2, lora_targets="q_projj")
    with pytest.raises(ValidationError, match="at least 1"):
        SftSettings.model_validate({"data": []})
