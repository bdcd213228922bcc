"""The stage `extend`: a model reads new text in fewer tokens."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arriero.artifacts import Artifact, Manifest
from arriero.cost.device import Rate
from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_decoder
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.stage import CorpusSpec, get_stage, open_input
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training.model_folder import planned_model_spec, write_model_folder

STAGE = get_stage("extend")
DEVICE: Any = SimpleNamespace(process_bytes=3e8, rate=lambda name: Rate(per_s=1e6, spread=0.2, unit="B"))
CHINESE = ["羊驼走过高山。商人带着羊驼走过高山，路很长。", "羊驼喜欢读书，商人喜欢羊驼。"] * 5


class FakeContext:
    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.seed = folder, folder / "state", 7
        self.said: list[str] = []
        folder.mkdir()

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        assert total is None or done <= total

    def say(self, line: str) -> None:
        self.said.append(line)

    def stop_requested(self) -> bool:
        return False


def artifact(folder: Path, kind: str, spec: dict[str, Any]) -> Artifact:
    manifest = Manifest(
        name=kind, kind=kind, makes=spec["type"], key="k", stage_version=1, settings={}, seed=0, spec=spec,
        started="", ended="",
    )  # fmt: skip
    return Artifact(folder, manifest)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Artifact]:
    tokenizer = train_bpe(sample_texts(20_000), 400, "llama3", 2)
    config = DecoderConfig(
        vocab_size=400, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=16, context_length=32
    )
    model = Decoder(config)
    model.init_weights(0)
    spec = write_model_folder(model, tokenizer, tmp_path / "model")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    sizes = {}
    for split, texts in {"train": CHINESE, "validation": CHINESE[:2]}.items():
        with gzip.open(corpus / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(texts))
        sizes[split] = {"documents": len(texts), "bytes": sum(len(text.encode()) for text in texts)}
    return {
        "model": artifact(tmp_path / "model", "pretrain", spec.model_dump()),
        "corpus": artifact(corpus, "curate", {"type": "corpus", "splits": sizes}),
    }


def test_it_makes_what_it_says(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    settings = STAGE.Settings(pieces=30)
    old = load_decoder(inputs["model"].path)
    specs = {"model": planned_model_spec(old.config), "corpus": open_input(inputs["corpus"], CorpusSpec)}
    plan = STAGE.plan(settings, specs, DEVICE)
    contexts = [FakeContext(tmp_path / name) for name in ("a", "b")]
    outcomes = [STAGE.run(settings, inputs, context) for context in contexts]
    assert plan.spec == outcomes[0].spec
    facts = outcomes[0].facts
    assert facts["pieces_added"] == 30 and facts["vocab_size"] == {"before": 400, "after": 430}
    assert facts["bytes_per_token"]["split"] == "validation"
    tokenizer, before = (Tokenizer.load(path) for path in (contexts[0].folder, inputs["model"].path))
    for name, found in {"before": before, "after": tokenizer}.items():
        ids = sum(map(len, found.encode_batch(CHINESE[:2])))
        size = sum(len(text.encode()) for text in CHINESE[:2])
        assert facts["bytes_per_token"][name] == pytest.approx(size / ids, abs=1e-4)
    assert facts["bytes_per_token"]["after"] > 1.5 * facts["bytes_per_token"]["before"]
    assert load_decoder(contexts[0].folder).config.vocab_size == tokenizer.vocab_size == 430
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (contexts[0].folder / name).read_bytes() == (contexts[1].folder / name).read_bytes()


def test_little_text_gives_fewer_pieces_and_says_so(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    context = FakeContext(tmp_path / "out")
    outcome = STAGE.run(STAGE.Settings(pieces=5000), inputs, context)
    assert outcome.facts["pieces_added"] < 1000
    assert "of the 5,000 wanted" in context.said[0]


def test_a_corpus_without_text_is_refused(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    empty = artifact(
        tmp_path, "curate", {"type": "corpus", "splits": {"train": {"documents": 0, "bytes": 0}}}
    )
    with pytest.raises(ArrieroError, match="no training text"):
        STAGE.run(STAGE.Settings(), {**inputs, "corpus": empty}, FakeContext(tmp_path / "out"))
