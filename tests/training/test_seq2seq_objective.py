from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from arriero.artifacts import Artifact, Manifest
from arriero.data.pairs import TextPair, read_pairs, split_pairs
from arriero.errors import ArrieroError
from arriero.inference.beam import BeamSettings, beam_generate
from arriero.models.checkpoint import load_model
from arriero.models.seq2seq import Seq2Seq
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.stage import ModelSpec, TokenizerSpec, get_stage
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training.evaluation import evaluate
from arriero.training.objectives import head
from arriero.training.objectives.base import Shape
from arriero.training.objectives.seq2seq import Pair, PairShape, Seq2SeqObjective
from arriero.training.pair_flops import PairFlops
from arriero.training.schedule import learning_rate, learning_rate_within
from arriero.training.seq2seq import Seq2SeqSettings
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate
from arriero.training.traced import Work, evaluation_figures, step_figures

CONFIG = Seq2SeqConfig(
    vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=1, encoder_heads=2, encoder_d_ff=24,
    context_length=128, dropout=0.0, pad_id=0, eos_id=1, start_id=2,
)  # fmt: skip
RELATIVE = CONFIG.model_copy(
    update={
        "positions": "relative",
        "norm": "rms",
        "arrangement": "pre",
        "bias": False,
        "scale_attention": False,
    }
)
STAGE = get_stage("seq2seq")


def make_pairs(count: int = 9, longest: int = 40) -> list[Pair]:
    draw = np.random.default_rng(0)

    def ids() -> np.ndarray:
        return np.append(draw.integers(3, 40, draw.integers(0, longest)), 1)

    return [Pair(ids(), ids()) for _ in range(count)]


def make_model(config: Seq2SeqConfig = CONFIG, seed: int = 0) -> Seq2Seq:
    model = Seq2Seq(config)
    model.init_weights(seed)
    return model


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_smoothed_cross_entropy_of_each_pair_alone(smoothing: float) -> None:
    model, pairs = make_model(), make_pairs()
    objective = Seq2SeqObjective(pairs, 2, smoothing)
    batch = objective.batch(range(len(pairs)))
    expected = 0.0
    for pair in pairs:
        written = torch.tensor(np.concatenate([[2], pair.target[:-1]]))[None]
        log_probs = model(torch.tensor(pair.source)[None], written)[0].detach().log_softmax(-1)
        likelihood = log_probs.gather(1, torch.tensor(pair.target)[:, None])[:, 0]
        # Szegedy et al., equation of section 7: (1 - e) of the weight on the target, e spread over all
        expected -= float(((1 - smoothing) * likelihood + smoothing * log_probs.mean(-1)).sum())
    assert objective.loss_sum(model, batch)[0].item() == pytest.approx(expected, rel=1e-5)
    assert objective.weight(batch) == sum(len(pair.target) for pair in pairs)
    assert batch.tokens == sum(len(pair.target) + len(pair.source) for pair in pairs)
    scored = model.target_logprobs([p.source for p in pairs], [p.target for p in pairs])
    if not smoothing:
        assert -sum(values.sum() for values in scored) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("config", [CONFIG, RELATIVE], ids=["transformer", "t5"])
def test_micro_batches_do_not_change_the_gradient(config: Seq2SeqConfig) -> None:
    model, objective = make_model(config), Seq2SeqObjective(make_pairs(8), 2, 0.1)
    found = []
    for size in (1, 3, 8):
        batches = [objective.batch(part) for part in objective.parts(range(8), size)]
        weight = sum(objective.weight(batch) for batch in batches)
        loss = accumulate(model, objective, batches, weight, "fp32")["loss"] / weight
        found.append(
            (loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        )
        model.zero_grad(set_to_none=True)
    assert found[0][1].keys() == dict(model.named_parameters()).keys()
    for loss, gradients in found[1:]:
        assert loss.item() == pytest.approx(found[0][0].item(), rel=1e-5)
        for name, gradient in gradients.items():
            assert torch.allclose(gradient, found[0][1][name], atol=1e-6), name


@pytest.mark.parametrize("block", [40 * 3, 1 << 22])
def test_the_blocked_smoothed_loss_has_the_plain_gradient(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "BLOCK_LOGITS", block)
    model = make_model()
    hidden = torch.randn(10, 16, requires_grad=True)
    targets = torch.randint(0, 40, (10,))
    targets[3] = -100
    plain = F.cross_entropy(model.logits(hidden), targets, reduction="sum", label_smoothing=0.2)
    expected = torch.autograd.grad(plain, [hidden, model.embedding.weight])
    blocked = head.loss_sum(model, hidden, targets, 0.2)
    found = torch.autograd.grad(blocked, [hidden, model.embedding.weight])
    assert blocked.item() == pytest.approx(plain.item(), rel=1e-5)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_synthetic_batches_are_shaped_like_real_ones() -> None:
    objective = Seq2SeqObjective(make_pairs(), 2)
    shape = objective.batch(range(4)).shape
    assert objective.synthetic(shape).shape == shape
    source, target = objective.batch(range(4)).source.shape[1], objective.batch(range(4)).ids.shape[1]
    assert (shape.source, shape.length) == (source, source + target)
    plain = objective.synthetic(Shape(3, 60, 10)).shape
    assert (plain.rows, plain.length, plain.scored) == (3, 60, 10)
    assert plain.source == round(60 * objective.source_share)


@pytest.mark.parametrize("config", [CONFIG, RELATIVE], ids=["transformer", "t5"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_flops_of_any_batch_from_a_few_traces_are_exact(config: Seq2SeqConfig, precision: Any) -> None:
    objective = Seq2SeqObjective([], 2, 0.1)
    work = Work(config, objective, TrainSettings(), precision)
    flops = PairFlops(work)
    for shape in (
        PairShape(3, 90, 64, False, 30),
        PairShape(1, 23, 5, False, 22),
        PairShape(5, 256, 640, False, 128),
    ):
        batch = objective.synthetic(shape)
        assert flops.training(batch) == pytest.approx(step_figures(work, [shape], None).flops, rel=1e-9)
        assert flops.evaluation(batch) == pytest.approx(evaluation_figures(work, shape, None).flops, rel=1e-9)


def test_inverse_square_root_is_the_papers_schedule() -> None:
    d_model, warmup = 512, 40
    settings = TrainSettings(
        schedule="inverse_sqrt", warmup=f"{warmup} steps", learning_rate=(d_model * warmup) ** -0.5
    )
    for step in (1, 7, 40, 41, 1000):
        paper = d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert learning_rate(settings, step - 1, 2000) == pytest.approx(paper)
        assert learning_rate_within(settings, step - 1, 0.3) == pytest.approx(paper)


def test_evaluation_leaves_dropout_out() -> None:
    model, objective = (
        make_model(CONFIG.model_copy(update={"dropout": 0.5})),
        Seq2SeqObjective(make_pairs(), 2),
    )
    model.train()
    losses = {evaluate(model, objective, range(9), micro_batch=4, precision="fp32")["loss"] for _ in range(2)}
    assert len(losses) == 1
    noisy = {objective.loss_sum(model, objective.batch(range(9)))[0].item() for _ in range(2)}
    assert len(noisy) == 2


# ---------------------------------------------------------------- pairs of texts


def test_pairs_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"en": f"s{i % 50}", "de": f"t{i}"}) + "\n" for i in range(200)))
    pairs = read_pairs(path, "en", "de")
    assert pairs[3] == TextPair("s3", "t3")
    train, held = split_pairs(pairs, 0.3, 0)
    assert sorted(train + held) == sorted(pairs)
    assert 20 < len(held) < 100
    assert not {pair.source for pair in train} & {pair.source for pair in held}
    for line, words in (
        ('{"en": "a", "dee": "b"}', "line 1: no field 'de' among en, dee.*did you mean"),
        ('{"en": "a", "de": 3}', "line 1: de should be a string, not int"),
        ("", "is empty"),
    ):
        path.write_text(line)
        with pytest.raises(ArrieroError, match=words):
            read_pairs(path, "en", "de")


# ---------------------------------------------------------------- the stage


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A tokenizer whose tokens are single bytes."""
    from arriero.tokenization.bpe import MIN_VOCAB, train_bpe

    tokenizer = train_bpe(["ab"], MIN_VOCAB, "llama3", 2)
    folder = tmp_path_factory.mktemp("letters")
    tokenizer.save(folder)
    spec = TokenizerSpec(vocab_size=tokenizer.vocab_size, bytes_per_token=1.0)
    manifest = Manifest(
        name="letters", kind="tokenizer", makes="tokenizer", key="k", stage_version=1, settings={}, seed=0,
        spec=spec.model_dump(), started="", ended="",
    )  # fmt: skip
    return Artifact(folder, manifest)


def write_reversals(path: Path, count: int, shortest: int, longest: int, seed: int = 0) -> Path:
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        text = "".join(draw.choices("abcdefgh", k=draw.randint(shortest, longest)))
        lines.append(json.dumps({"source": text, "target": text[::-1]}) + "\n")
    path.write_text("".join(lines))
    return path


def settings_for(data: Path, **changes: Any) -> Seq2SeqSettings:
    values = {
        "data": [data], "d_model": 32, "n_layers": 1, "n_heads": 2, "context_length": 32, "duration": "12 steps",
        "batch_size": 8, "precision": "fp32", "threads": 1, "holdout_share": 0.2, "log_every": 4,
    }  # fmt: skip
    return Seq2SeqSettings.model_validate({**values, **changes})


@pytest.mark.parametrize("family", ["transformer", "bart", "t5"])
def test_a_run_leaves_a_model_and_true_facts(
    family: str, letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    data = write_reversals(tmp_path / "data.jsonl", 60, 3, 40)
    settings, context = settings_for(data, family=family), make_context()
    outcome = STAGE.run(settings, {"tokenizer": letters}, context)
    model, tokenizer = load_model(context.folder), Tokenizer.load(context.folder)
    assert isinstance(model, Seq2Seq)
    assert ModelSpec.model_validate(outcome.spec.model_dump()).n_parameters == sum(
        model.parameter_counts().values()
    )
    assert model.config == Seq2SeqConfig.parse(outcome.spec.config, "the spec")
    ids = (model.config.start_id, model.config.eos_id, model.config.pad_id)
    assert ids == (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    assert outcome.facts["data"]["too_long"] > 0
    assert outcome.facts["parameters"] == model.parameter_counts()
    assert context.flops == pytest.approx(outcome.facts["flops"])
    assert "longer than context_length left out" in context.said[0]
    assert outcome.facts["heldout"][-1]["loss"] < outcome.facts["heldout"][0]["loss"]
    assert [record.name for record in outcome.licenses] == ["unknown"]


def test_the_plan_is_near_the_run(
    letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    from types import SimpleNamespace

    settings = settings_for(write_reversals(tmp_path / "data.jsonl", 60, 3, 40))
    device: Any = SimpleNamespace(process_bytes=3e8, bf16_pays=False, rate=lambda name: None)
    spec = TokenizerSpec.model_validate(letters.manifest.spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arriero.training.traced.seconds", lambda trace, device: trace.flops / 1e9)
        made = STAGE.plan(settings, {"tokenizer": spec}, device)
    outcome = STAGE.run(settings, {"tokenizer": letters}, make_context())
    changed = {"pad_id", "eos_id", "start_id"}  # a spec does not know the tokenizer's
    assert {k: v for k, v in made.spec.config.items() if k not in changed} == {
        k: v for k, v in outcome.spec.config.items() if k not in changed
    }
    assert made.spec.n_parameters == outcome.spec.n_parameters
    assert made.spec.weight_bytes == pytest.approx(outcome.spec.weight_bytes, abs=8)
    assert made.estimate.flops.value == pytest.approx(outcome.facts["flops"], rel=0.1)


def test_a_stopped_run_goes_on_to_the_same_weights(
    letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    from arriero.errors import Interrupted

    settings = settings_for(write_reversals(tmp_path / "data.jsonl", 60, 3, 20))
    whole, stopped = make_context(), make_context(root=tmp_path / "stopped", stop_at=5)
    STAGE.run(settings, {"tokenizer": letters}, whole)
    with pytest.raises(Interrupted):
        STAGE.run(settings, {"tokenizer": letters}, stopped)
    again = make_context(root=tmp_path / "stopped")
    STAGE.run(settings, {"tokenizer": letters}, again)
    name = "model.safetensors"
    assert (whole.folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_what_cannot_be_trained_is_said(
    letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    long = write_reversals(tmp_path / "long.jsonl", 5, 50, 60)
    for changes, words in (
        ({"holdout_share": 0.0}, "no pair fits into a context_length of 32"),
        ({"holdout_share": 0.999999}, "pairs are held out"),
    ):
        with pytest.raises(ArrieroError, match=words):
            STAGE.run(settings_for(long, **changes), {"tokenizer": letters}, make_context())
    for changes, words in (
        ({"n_heads": 5}, "not a multiple"),
        ({"source_field": "target"}, "are both 'target'"),
    ):
        with pytest.raises(ValueError, match=words):
            settings_for(long, **changes)


@pytest.mark.slow
def test_strings_are_learnt_backwards(
    letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    """Proof (a) of the original Transformer: unseen strings are reversed, found by beam search."""
    data = write_reversals(tmp_path / "data.jsonl", 20_000, 4, 12)
    settings = settings_for(
        data, d_model=64, n_heads=4, n_layers=2, batch_size=64, duration="1200 steps", learning_rate=2e-3,
        holdout_share=0.02, dropout=0.0, context_length=16, warmup="10 %", schedule="cosine", eval_samples=64,
    )  # fmt: skip
    context = make_context()
    STAGE.run(settings, {"tokenizer": letters}, context)
    model, tokenizer = load_model(context.folder), Tokenizer.load(context.folder)
    unseen = read_pairs(write_reversals(tmp_path / "unseen.jsonl", 300, 4, 12, seed=1), "source", "target")
    seen = {pair.source for pair in read_pairs(data, "source", "target")}
    unseen = [pair for pair in unseen if pair.source not in seen]
    assert len(unseen) > 200
    sources = [tokenizer.encode(pair.source, eos=True) for pair in unseen]
    for beams in (1, 4):
        found = beam_generate(model, sources, BeamSettings(beams=beams, max_tokens=16))
        right = sum(
            tokenizer.decode(one[0].ids) == pair.target for one, pair in zip(found, unseen, strict=True)
        )
        assert right / len(unseen) >= 0.99
