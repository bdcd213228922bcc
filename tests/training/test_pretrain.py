from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from arriero.artifacts import Artifact, Manifest
from arriero.cost.device import Rate
from arriero.data.documents import Document
from arriero.data.shard_writer import ShardWriter, publish
from arriero.data.shards import META_FILE, TokensMeta, token_type
from arriero.data.tokenize import tokenizer_folder
from arriero.errors import ArrieroError, Interrupted
from arriero.models.checkpoint import load_language_model, load_model
from arriero.stage import TokenSplitSpec, TokensSpec, get_stage
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training import plan, probe
from arriero.training.pretrain import PretrainSettings
from arriero.training.start import START_SECONDS

STAGE = get_stage("pretrain")
SHAPE = {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "context_length": 32, "threads": 1}


def write_tokens(folder: Path, tokenizer: Tokenizer | None = None, **texts: list[str]) -> Artifact:
    """A tokens artifact, by the code of the stage that makes them."""
    tokenizer = tokenizer or train_bpe(sample_texts(20_000), 300, "llama3", 2)
    state = folder / "state"
    state.mkdir(parents=True)
    metas = {}
    for split, items in texts.items():
        documents = (
            Document(id=str(i), text=text, source="s", url=None, license="CC0-1.0", lang=None, meta={})
            for i, text in enumerate(items)
        )
        metas[split] = ShardWriter(state, split, tokenizer, 1 << 20).write(documents, lambda n: None)
    meta = TokensMeta(
        dtype=token_type(tokenizer.vocab_size), vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.fingerprint,
        bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, splits=metas,
    )  # fmt: skip
    publish(state, folder, meta)
    (folder / META_FILE).write_text(meta.model_dump_json())
    tokenizer.save(tokenizer_folder(folder))
    splits = {
        name: TokenSplitSpec(documents=m.documents, tokens=m.tokens, bytes=m.bytes)
        for name, m in metas.items()
    }
    spec = TokensSpec(vocab_size=tokenizer.vocab_size, splits=splits)
    manifest = Manifest(
        name="tokens", kind="tokenize", makes="tokens", key="k", stage_version=1, settings={}, seed=0,
        spec=spec.model_dump(), started="", ended="",
    )  # fmt: skip
    return Artifact(folder, manifest)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    texts = sample_texts(40_000)
    return write_tokens(tmp_path_factory.mktemp("tokens"), train=texts[3:], validation=texts[:3])


def settings(**changes: Any) -> PretrainSettings:
    values = {**SHAPE, "duration": "40 steps", "batch_size": 4, "learning_rate": 1e-2, "precision": "fp32"}
    return PretrainSettings.model_validate({**values, **changes})


def test_it_makes_a_model_that_has_learnt_something(
    tokens: Artifact, make_context: Callable[..., Any]
) -> None:
    context = make_context()
    outcome = STAGE.run(settings(), {"tokens": tokens}, context)
    facts = outcome.facts
    assert facts["heldout"][0]["loss"] == pytest.approx(math.log(300), rel=0.05)
    assert facts["heldout_nats_per_token"] < facts["heldout"][0]["loss"] - 0.5
    split = tokens.manifest.spec["splits"]["validation"]
    share = (split["tokens"] - split["documents"]) / split["bytes"]
    assert facts["heldout_bits_per_byte"] == pytest.approx(
        facts["heldout_nats_per_token"] / math.log(2) * share
    )
    assert (facts["steps"], facts["tokens"], facts["precision"], facts["threads"]) == (
        40,
        40 * 4 * 32,
        "fp32",
        1,
    )
    assert facts["loss"]["last"] < facts["loss"]["first"]
    assert context.flops == pytest.approx(facts["flops"]) and facts["flops"] > 0
    model = load_model(context.folder)
    assert sum(model.parameter_counts().values()) == outcome.spec.n_parameters
    assert outcome.spec.weight_bytes == (context.folder / "model.safetensors").stat().st_size
    assert Tokenizer.load(context.folder).vocab_size == model.config.vocab_size
    made = sorted(path.name for path in context.folder.iterdir())
    assert made == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip


def test_a_stopped_stage_ends_with_the_same_bytes(
    tokens: Artifact, make_context: Any, tmp_path: Path
) -> None:
    whole = make_context()
    STAGE.run(settings(), {"tokens": tokens}, whole)
    with pytest.raises(Interrupted):
        STAGE.run(settings(), {"tokens": tokens}, make_context(root=tmp_path / "stopped", stop_at=17))
    resumed = make_context(root=tmp_path / "stopped")
    STAGE.run(settings(), {"tokens": tokens}, resumed)
    for path in whole.folder.iterdir():
        assert path.read_bytes() == (resumed.folder / path.name).read_bytes(), path.name


def test_auto_precision_stays_what_it_was_over_a_resume(
    tokens: Artifact, make_context: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from arriero.training import precision

    monkeypatch.setattr(precision, "load_profile", lambda: SimpleNamespace(bf16_pays=True))
    with pytest.raises(Interrupted):
        STAGE.run(
            settings(precision="auto"), {"tokens": tokens}, make_context(root=tmp_path / "a", stop_at=3)
        )
    monkeypatch.setattr(precision, "load_profile", lambda: SimpleNamespace(bf16_pays=False))
    outcome = STAGE.run(settings(precision="auto"), {"tokens": tokens}, make_context(root=tmp_path / "a"))
    assert outcome.facts["precision"] == "bf16"


def test_too_little_text_is_one_line(tmp_path: Path, make_context: Any) -> None:
    little = write_tokens(tmp_path / "tokens", train=["abc"], validation=[])
    with pytest.raises(ArrieroError, match=r"do not fill one window of 32 \+ 1"):
        STAGE.run(settings(), {"tokens": little}, make_context())
    with pytest.raises(ArrieroError, match="shorter context_length"):
        STAGE.plan(settings(), {"tokens": TokensSpec.model_validate(little.manifest.spec)}, device())


def test_without_validation_text_it_trains_and_says_so(tmp_path: Path, make_context: Any) -> None:
    only = write_tokens(tmp_path / "tokens", train=sample_texts(20_000), validation=[])
    context = make_context()
    outcome = STAGE.run(settings(duration="2 steps"), {"tokens": only}, context)
    assert outcome.facts["heldout"] == [] and "validation" in context.said[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 30}, "not a multiple of n_heads"), ({"n_kv_heads": 3}, "not a multiple of n_kv_heads"),
        ({"d_model": 36, "n_heads": 4}, "must be even"), ({"learning_rate": 0}, "greater than 0"),
        ({"widht": 3}, "widht"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


def test_the_feed_forward_width_follows_the_rule() -> None:
    assert settings(d_model=224).config(64).d_ff == 608
    assert settings(d_ff=100).config(64).d_ff == 100


def device(**rates: float) -> Any:
    found = {name: Rate(per_s=value, spread=0.1, unit="") for name, value in rates.items()}
    return SimpleNamespace(
        process_bytes=3e8,
        bf16_pays=False,
        rates=found,
        rate=found.get,
        model_dump_json=lambda: json.dumps(rates),
    )


@pytest.fixture
def gflop_device(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine that does a GFLOP a second and nothing else costs."""
    monkeypatch.setattr("arriero.training.traced.seconds", lambda trace, device: trace.flops / 1e9)
    return device(**{"pretrain.checkpoint_bytes": 1e9})


def test_the_plan_counts_what_the_run_does(tokens: Artifact, make_context: Any, gflop_device: Any) -> None:
    spec = TokensSpec.model_validate(tokens.manifest.spec)
    for changes in ({}, {"micro_batch_size": 2}, {"duration": "2 epochs", "batch_size": 7, "eval_every": 3}):
        made = STAGE.plan(settings(**changes), {"tokens": spec}, gflop_device)
        outcome = STAGE.run(settings(**changes), {"tokens": tokens}, make_context())
        assert made.spec == outcome.spec
        assert made.estimate.flops.value == pytest.approx(outcome.facts["flops"], rel=0.03)
        seconds = made.estimate.seconds
        assert seconds.value == pytest.approx(outcome.facts["flops"] / 1e9 + START_SECONDS, rel=0.05)
        assert seconds.low < seconds.value < seconds.high and seconds.basis == "modelled"


def test_the_probe_corrects_the_plan(
    tokens: Artifact, gflop_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TokensSpec.model_validate(tokens.manifest.spec)
    plain = STAGE.plan(settings(d_model=64), {"tokens": spec}, gflop_device).estimate.seconds
    monkeypatch.setattr(plan, "step_ratio", lambda device, dtype: Rate(per_s=1.5, spread=0.1, unit="x"))
    corrected = STAGE.plan(settings(d_model=64), {"tokens": spec}, gflop_device).estimate.seconds
    start = START_SECONDS
    assert corrected.value - start == pytest.approx(1.5 * (plain.value - start), rel=0.01)
    assert corrected.high / corrected.value < plain.high / plain.value, "measured, so trusted more"


@pytest.mark.slow
def test_the_probe_measures_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_SECONDS", 0.1)
    rates = STAGE.probe()
    assert set(rates) == {
        "pretrain.steps.float32", "pretrain.steps.bfloat16", "pretrain.checkpoint_bytes",
        "pretrain.checkpoint_blocked_bytes", "pretrain.starts",
    }  # fmt: skip
    assert all(rate.per_s > 0 and rate.spread > 0 for rate in rates.values())


FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"d_model": 32, "n_layers": 2, "n_heads": 4, "dropout": 0.1},
    "lstm": {"d_model": 40, "d_embedding": 24, "n_layers": 2},
    "rnn": {"d_model": 40, "tie_embeddings": False},
    "feedforward": {"d_model": 40, "window": 5},
}


def of_family(family: str, **changes: Any) -> PretrainSettings:
    values = {
        "family": family, **FAMILIES[family], "context_length": 32, "threads": 1, "duration": "40 steps",
        "batch_size": 4, "learning_rate": 1e-2, "precision": "fp32", "eval_samples": 30,
    }  # fmt: skip
    return PretrainSettings.model_validate({**values, **changes})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_and_its_plan_says_what_it_does(
    family: str, tokens: Artifact, make_context: Callable[..., Any], gflop_device: Any
) -> None:
    chosen = of_family(family)
    made = STAGE.plan(chosen, {"tokens": TokensSpec.model_validate(tokens.manifest.spec)}, gflop_device)
    context = make_context()
    outcome = STAGE.run(chosen, {"tokens": tokens}, context)
    facts = outcome.facts
    assert made.spec == outcome.spec and outcome.spec.config["family"] == family
    assert made.estimate.flops.value == pytest.approx(facts["flops"], rel=0.03)
    assert facts["heldout"][-1]["loss"] < facts["heldout"][0]["loss"] - 0.5
    model = load_language_model(context.folder)
    assert sum(model.parameter_counts().values()) == outcome.spec.n_parameters
    assert outcome.spec.weight_bytes == (context.folder / "model.safetensors").stat().st_size
    assert len(model.token_logprobs([[5, 6, 7]])[0]) == 2


@pytest.mark.parametrize("family", ["gpt2", "lstm"])
def test_a_stopped_stage_of_any_family_ends_with_the_same_bytes(
    family: str, tokens: Artifact, make_context: Any, tmp_path: Path
) -> None:
    chosen, whole = of_family(family, duration="20 steps"), make_context()
    STAGE.run(chosen, {"tokens": tokens}, whole)
    with pytest.raises(Interrupted):
        STAGE.run(chosen, {"tokens": tokens}, make_context(root=tmp_path / "stopped", stop_at=9))
    resumed = make_context(root=tmp_path / "stopped")
    STAGE.run(chosen, {"tokens": tokens}, resumed)
    for path in whole.folder.iterdir():
        assert path.read_bytes() == (resumed.folder / path.name).read_bytes(), path.name


def test_a_budget_of_cpu_seconds_is_planned_from_the_price_of_a_step(
    tokens: Artifact, make_context: Any, gflop_device: Any
) -> None:
    spec = TokensSpec.model_validate(tokens.manifest.spec)
    chosen = of_family("lstm", duration="2 cpu-seconds", eval_points=4)
    made = STAGE.plan(chosen, {"tokens": spec}, gflop_device)
    few, many = (
        STAGE.plan(
            of_family("lstm", duration=f"{n} steps"), {"tokens": spec}, gflop_device
        ).estimate.seconds.value
        for n in (100, 200)
    )
    per_step = (many - few) / 100
    steps = int(made.notes[0].split(" about ")[1].split(" steps")[0].replace(",", ""))
    assert steps == pytest.approx(2 / per_step, rel=0.02)
    seconds = made.estimate.seconds
    assert seconds.low < 2 + START_SECONDS < seconds.high
    assert made.estimate.flops.low < made.estimate.flops.value < made.estimate.flops.high
    outcome = STAGE.run(
        chosen.model_copy(update={"duration": "0.5 cpu-seconds"}), {"tokens": tokens}, make_context()
    )
    assert outcome.facts["cpu_seconds"] == pytest.approx(0.5, abs=0.2)
    assert [set(row) >= {"tokens", "cpu_seconds", "loss"} for row in outcome.facts["heldout"]].count(
        True
    ) >= 4


def test_streams_need_enough_text(tokens: Artifact, make_context: Any) -> None:
    with pytest.raises(
        ArrieroError, match="lower batch_size or context_length, give more text, or set stream"
    ):
        STAGE.run(of_family("lstm", batch_size=4096), {"tokens": tokens}, make_context())
    outcome = STAGE.run(
        of_family("lstm", batch_size=4, stream=False, duration="2 steps"), {"tokens": tokens}, make_context()
    )
    assert outcome.facts["steps"] == 2
