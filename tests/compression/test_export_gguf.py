from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.compression.conftest import spec_of, write_manifest

from arriero.artifacts import Artifact
from arriero.compression.export import Export, ExportSettings
from arriero.compression.quantize import Quantize, QuantizeSettings
from arriero.cost.device import DeviceProfile
from arriero.errors import ArrieroError, Interrupted
from arriero.models.checkpoint import load_model, save_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.gguf import open_gguf
from arriero.native.linear import exact_products
from arriero.stage import ModelSpec
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.from_gguf import from_gguf_metadata
from arriero.tokenization.tokenizer import Tokenizer

TEXT = "Es war einmal ein König, der hatte 12 Töchter. " * 3
IDS = torch.randint(0, 203, (2, 30), generator=torch.Generator().manual_seed(1))
KINDS = ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]


def without_tokenizer(source: Artifact) -> None:
    """Take away the fixture's, which is none."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (source.path / name).unlink()


@pytest.fixture
def with_tokenizer(tmp_path: Path) -> Artifact:
    """A model of 300 rows with a tokenizer of fewer tokens."""
    folder, config = tmp_path / "with-tokenizer", DecoderConfig(
        vocab_size=300, d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=64, context_length=16
    )  # fmt: skip
    model = Decoder(config)
    model.init_weights(2)
    save_model(model, folder, bos_token_id=0, eos_token_id=[1, 4])
    train_bpe([TEXT], 290, "llama3", 2).save(folder)
    return write_manifest(folder, spec_of(folder, config))


def settings_of(kind: str | None) -> ExportSettings:
    return ExportSettings.model_validate({"format": "gguf", "gguf_type": kind})


@pytest.mark.parametrize("kind", KINDS)
def test_file_is_as_planned(
    source: Artifact, device: DeviceProfile, make_context: Callable[[str], Any], kind: str
) -> None:
    without_tokenizer(source)
    context, settings = make_context("out"), settings_of(kind)
    plan = Export().plan(settings, {"model": ModelSpec.model_validate(source.manifest.spec)}, device)
    outcome = Export().run(settings, {"model": source}, context)
    assert outcome.spec == plan.spec and outcome.spec.format == f"gguf-{kind.lower()}"
    assert plan.estimate.flops.value == context.flops > 0
    assert sorted(path.name for path in context.folder.iterdir()) == [
        "README.md",
        "generation_config.json",
        "model.gguf",
    ]
    path = context.folder / "model.gguf"
    assert 0 < path.stat().st_size - outcome.spec.weight_bytes < 6000, "the rest is the header"
    before, after = load_model(source.path), load_model(path, dtype="float32")
    for (name, wanted), found in zip(before.named_parameters(), after.parameters(), strict=True):
        worst = ((wanted - found).abs().max() / wanted.abs().max()).item()
        assert worst <= {"F32": 0, "F16": 5e-4, "BF16": 4e-3, "Q8_0": 0.005}.get(kind, 0.13), name
    with torch.no_grad():
        change = (before(IDS) - after(IDS)).abs().max() / before(IDS).abs().max()
    assert change <= {"F32": 0, "F16": 0.01, "BF16": 0.05, "Q8_0": 0.1}.get(kind, 1.0)
    assert ("llama-cli" in (context.folder / "README.md").read_text()) and outcome.facts[
        "largest_logit_change"
    ] >= 0


def test_tokenizer_goes_with_it(with_tokenizer: Artifact, make_context: Callable[[str], Any]) -> None:
    context = make_context("out")
    tokenizer = Tokenizer.load(with_tokenizer.path)
    Export().run(settings_of(None), {"model": with_tokenizer}, context)
    with open_gguf(context.folder / "model.gguf") as model:
        assert model.storage("model.embed_tokens.weight") == "F16", "F16 by default"
        assert model.metadata["general.name"] == "with-tokenizer"
        assert model.chat_template == tokenizer.config["chat_template"]
        assert model.special_ids()["bos_token_id"] == tokenizer.bos_id
        assert model.metadata["tokenizer.ggml.eot_token_id"] == tokenizer.end_of_turn_id
        assert model.metadata["tokenizer.ggml.pre"] == "llama-bpe"
        assert model.metadata["tokenizer.ggml.add_bos_token"] is True
        assert model.special_ids()["eos_token_id"] == [tokenizer.eos_id, tokenizer.end_of_turn_id]
        assert len(model.metadata["tokenizer.ggml.tokens"]) == 300
        again = from_gguf_metadata(model.metadata)
    text = "Die 1234 Töchter – 🙂 \n\n  x's"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.decode(again.encode(text)) == text


def test_equal_bytes(with_tokenizer: Artifact, make_context: Callable[[str], Any]) -> None:
    made = []
    for name in ("first", "second"):
        context = make_context(name)
        Export().run(settings_of("q4_0"), {"model": with_tokenizer}, context)
        made.append((context.folder / "model.gguf").read_bytes())
    assert made[0] == made[1]


def test_quantised_model_becomes_plain(
    source: Artifact, make_context: Callable[[str], Any], commit: Callable[..., Artifact]
) -> None:
    without_tokenizer(source)
    context, out = make_context("q"), make_context("out")
    made = Quantize().run(QuantizeSettings(scheme="int4"), {"model": source}, context)
    quantised = commit(context, made.spec, source, "quantize")
    Export().run(settings_of("F32"), {"model": quantised}, out)
    with torch.no_grad(), exact_products():
        before, after = (
            load_model(quantised.path, dtype="float32")(IDS),
            load_model(out.folder / "model.gguf")(IDS),
        )
    assert (before - after).abs().max() <= 1e-5 * before.abs().max()


def test_settings_that_do_not_go_together() -> None:
    assert settings_of("q8_0").gguf_type == "Q8_0"
    with pytest.raises(ValueError, match="dtype is of Hugging Face folders"):
        ExportSettings(format="gguf", dtype="float16")
    with pytest.raises(ValueError, match="gguf_type needs format gguf"):
        ExportSettings(gguf_type="F16")


def test_more_tokens_than_rows(source: Artifact, make_context: Callable[[str], Any]) -> None:
    train_bpe([TEXT], 230, "gpt2", 2).save(source.path)
    with pytest.raises(ArrieroError, match=r"the tokenizer has 2\d\d tokens, the model only 203 rows"):
        Export().run(settings_of(None), {"model": source}, make_context("out"))


def test_wrong_weights_are_noticed(
    source: Artifact, make_context: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows left in half-split order: the error that logits of four-bit weights would not show."""
    from arriero.models.gguf.architectures import Architecture

    without_tokenizer(source)
    from arriero.models.gguf import writer

    honest = writer._plan

    def faulty(arch: Architecture, *rest: Any) -> Any:
        from dataclasses import replace

        return honest(replace(arch, permuted={}), *rest)

    monkeypatch.setattr(writer, "_plan", faulty)
    with pytest.raises(
        ArrieroError, match=r"other weights than its source in model.layers.0.self_attn.q_proj.weight"
    ):
        Export().run(settings_of("Q4_0"), {"model": source}, make_context("out"))


def test_stops_when_asked(source: Artifact, make_context: Callable[[str], Any]) -> None:
    without_tokenizer(source)
    context = make_context("out")
    context.stop_after = 0
    with pytest.raises(Interrupted, match="does this stage again"):
        Export().run(settings_of(None), {"model": source}, context)
