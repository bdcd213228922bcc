"""Small real artifacts: a tokens artifact, two decoders over it, and files of conversations and preferences."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from arriero.artifacts import Artifact, Manifest
from arriero.artifacts.artifact import list_files
from arriero.artifacts.manifest import InputRecord
from arriero.cost.device import (
    AttentionPoint,
    DeviceProfile,
    ElementwiseKind,
    ElementwisePoint,
    MatmulPoint,
    Rate,
)
from arriero.data.documents import Document
from arriero.data.shard_writer import ShardWriter, publish
from arriero.data.shards import META_FILE, TokensMeta, token_type
from arriero.models.checkpoint import save_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.stage import ModelSpec, Spec, TokenSplitSpec, TokensSpec
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.tokenizer import Tokenizer

WORDS = [
    "the",
    "llama",
    "walks",
    "over",
    "high",
    "mountains",
    "and",
    "carries",
    "salt",
    "wool",
    "maize",
    "to",
    "markets",
    "by",
    "cold",
    "rivers",
]


@dataclass
class FakeContext:
    """A run's side of the contract, kept in memory."""

    folder: Path
    state: Path
    seed: int = 1
    stop_after: int | None = None
    told: list[tuple[float, float | None]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    flops: float = 0.0

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        self.told.append((done, total))

    def log(self, **figures: Any) -> None:
        self.lines.append(json.dumps(figures))

    def say(self, line: str) -> None:
        self.lines.append(line)

    def stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.told) >= self.stop_after

    def count_flops(self, flops: float) -> None:
        self.flops += flops


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Models this small only get slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def context(tmp_path: Path) -> FakeContext:
    found = FakeContext(tmp_path / "folder", tmp_path / "state")
    found.folder.mkdir()
    found.state.mkdir()
    return found


def commit(
    folder: Path,
    name: str,
    kind: str,
    makes: str,
    spec: Spec,
    inputs: list[Artifact] | None = None,
    **more: Any,
) -> Artifact:
    """Write the manifest of what lies in ``folder``."""
    records = [
        InputRecord(
            role="model", name=i.name, kind=i.manifest.kind, key=i.manifest.key, content="-", path=str(i.path)
        )
        for i in inputs or []
    ]
    manifest = Manifest(
        name=name, kind=kind, makes=makes, stage_version=1, seed=0, inputs=records,
        files=list_files(folder), spec=spec.model_dump(mode="json"), started="", ended="",
        **{"settings": {}, "key": f"{name}-key".ljust(12, "0"), **more},
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return Artifact.open(folder)


def sentences(rng: random.Random, n: int) -> str:
    return " ".join(" ".join(rng.choices(WORDS, k=rng.randint(4, 9))) + "." for _ in range(n))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    rng = random.Random(0)
    return train_bpe([sentences(rng, 20) for _ in range(20)], 320, "llama3", 2)


@pytest.fixture(scope="session")
def tokens(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder, state, rng = tmp_path_factory.mktemp("tokens"), tmp_path_factory.mktemp("state"), random.Random(1)
    splits = {}
    for split, n in (("train", 60), ("validation", 12)):
        texts = [sentences(rng, rng.randint(1, 12)) for _ in range(n)]
        documents = [Document(id=f"{split}{i}", text=text, source="made up") for i, text in enumerate(texts)]
        writer = ShardWriter(state, split, tokenizer, 1 << 20)
        splits[split] = writer.write(iter(documents), lambda n_bytes: None)
    meta = TokensMeta(
        dtype=token_type(tokenizer.vocab_size), vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.fingerprint,
        bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, splits=splits,
    )  # fmt: skip
    publish(state, folder, meta)
    (folder / META_FILE).write_text(meta.model_dump_json())
    tokenizer.save(folder / "tokenizer")
    spec = TokensSpec(
        vocab_size=tokenizer.vocab_size,
        splits={
            k: TokenSplitSpec(documents=s.documents, tokens=s.tokens, bytes=s.bytes)
            for k, s in splits.items()
        },
    )
    return commit(folder, "tokens", "tokenize", "tokens", spec)


def build_model(
    folder: Path,
    name: str,
    tokenizer: Tokenizer,
    seed: int,
    parents: list[Artifact] | None = None,
    **more: Any,
) -> Artifact:
    """A model artifact with random weights; ``context_length`` 48, so that documents need windows."""
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=16,
        n_layers=2,
        n_heads=2,
        n_kv_heads=1,
        d_ff=32,
        context_length=48,
    )
    model = Decoder(config)
    model.init_weights(seed)
    save_model(model, folder)
    tokenizer.save(folder)
    size = (folder / "model.safetensors").stat().st_size
    n = sum(model.parameter_counts().values())
    spec = ModelSpec(config=config.model_dump(), n_parameters=n, weight_bytes=size)
    return commit(folder, name, "pretrain" if not parents else "sft", "model", spec, parents, **more)


@pytest.fixture(scope="session")
def base(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return build_model(tmp_path_factory.mktemp("base"), "base", tokenizer, seed=0)


@pytest.fixture(scope="session")
def tuned(tokenizer: Tokenizer, base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return build_model(tmp_path_factory.mktemp("tuned"), "tuned", tokenizer, seed=5, parents=[base])


@pytest.fixture(scope="session")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, rng = tmp_path_factory.mktemp("data") / "conversations.jsonl", random.Random(2)
    rows = [{"prompt": sentences(rng, 1), "response": sentences(rng, 1)} for _ in range(30)]
    rows.append({"prompt": "Where?", "response": sentences(rng, 40)})  # longer than the context
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, rng = tmp_path_factory.mktemp("data") / "preferences.jsonl", random.Random(3)
    rows = [
        {"prompt": sentences(rng, 1), "chosen": sentences(rng, 1), "rejected": sentences(rng, 1)}
        for _ in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def make_model() -> Callable[..., Artifact]:
    return build_model


@pytest.fixture(scope="session")
def profile() -> DeviceProfile:
    """A machine of 100 GFLOP/s, with the stage's own rates as it measures them."""
    matmul = [MatmulPoint(dtype="float32", m=n, k=n, n=n, flops_per_s=1e11) for n in (16, 256, 2048)]
    attention = [
        AttentionPoint(
            dtype="float32", batch=8, n_heads=4, seq_len=n, head_dim=32, forward_flops_per_s=3e10, backward_flops_per_s=2e10
        )
        for n in (64, 512)
    ]  # fmt: skip
    elementwise = [
        ElementwisePoint(kind=kind, dtype=dtype, bytes=1 << 20, bytes_per_s=5e9)
        for kind in get_args(ElementwiseKind) for dtype in ("float32", "bfloat16")
    ]  # fmt: skip
    rates = {
        "evaluate.passes_per_s": Rate(per_s=20, spread=0.1, unit="passes"),
        "evaluate.ngram_tokens_per_s": Rate(per_s=2e6, spread=0.2, unit="tokens"),
        "evaluate.ngram_scored_per_s": Rate(per_s=2e6, spread=0.2, unit="tokens"),
    }
    return DeviceProfile(
        cpu="test", cores=2, threads=1, memory_bytes=8_000_000_000, measured_at="2026-11-21T00:00:00+00:00", versions={},
        matmul=matmul, attention=attention, elementwise=elementwise, copy_bytes_per_s=1e10, op_seconds=5e-6,
        optimizer_params_per_s=1e8, bf16_pays=False, process_bytes=200_000_000, rates=rates,
    )  # fmt: skip
