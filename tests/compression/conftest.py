from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arriero.artifacts import Artifact, LicenseRecord, Manifest
from arriero.artifacts.artifact import list_files
from arriero.artifacts.commit import write_json_atomic
from arriero.artifacts.manifest import MANIFEST, InputRecord, SourceRecord
from arriero.cost.device import DeviceProfile, Rate
from arriero.models.checkpoint import read_format, save_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.stage import ModelSpec


class Recorder:
    """A stage's context that keeps what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.seed = folder / "artifact", folder / "state", 7
        self.folder.mkdir(parents=True)
        self.state.mkdir()
        self.reports: list[tuple[float, float | None]] = []
        self.flops = 0.0
        self.stop_after: int | None = None

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        self.reports.append((done, total))

    def log(self, **figures: Any) -> None: ...

    def say(self, line: str) -> None: ...

    def stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.reports) >= self.stop_after

    def count_flops(self, flops: float) -> None:
        self.flops += flops


def write_manifest(folder: Path, spec: ModelSpec, **changes: Any) -> Artifact:
    values: dict[str, Any] = {
        "name": folder.name, "kind": "pretrain", "makes": "model", "key": "k" + folder.name, "stage_version": 1,
        "settings": {}, "seed": 0, "started": "then", "ended": "now", **changes,
    }  # fmt: skip
    manifest = Manifest(**values, files=list_files(folder), spec=spec.model_dump(mode="json"))
    write_json_atomic(folder / MANIFEST, manifest.model_dump(mode="json"))
    return Artifact.open(folder)


@pytest.fixture
def commit() -> Callable[..., Artifact]:
    return _commit


def _commit(context: Recorder, spec: ModelSpec, source: Artifact, kind: str) -> Artifact:
    """What the run makes of a finished stage."""
    record = InputRecord(
        role="model", name=source.name, kind=source.manifest.kind, key=source.manifest.key,
        content=source.manifest.content, path=str(source.path),
    )  # fmt: skip
    return write_manifest(context.folder, spec, kind=kind, inputs=[record])


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[[str], Recorder]:
    return lambda name: Recorder(tmp_path / name)


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    """A model artifact of random weights with a corpus of two licences behind it."""
    corpus = tmp_path / "texts"
    corpus.mkdir()
    (corpus / "documents.jsonl").write_text("{}\n")
    licenses = [
        LicenseRecord(name="CC-BY-4.0", of="stories | of old", url="https://example.org/by"),
        LicenseRecord(name="Public domain", of="novels"),
    ]
    sources = [SourceRecord(path="/somewhere/private/novels.txt", bytes=123456, sha256="ab" * 32)]
    parent = write_manifest(
        corpus, a_spec(), kind="curate", makes="corpus", licenses=licenses, sources=sources
    )
    config = DecoderConfig(
        vocab_size=203,
        d_model=64,
        n_layers=3,
        n_heads=4,
        n_kv_heads=2,
        d_ff=192,
        context_length=48,
        init_std=0.1,
    )
    model = Decoder(config)
    model.init_weights(1)
    folder = tmp_path / "base"
    save_model(model, folder, bos_token_id=0, eos_token_id=[1, 2], pad_token_id=3)
    (folder / "tokenizer.json").write_text(json.dumps({"model": "ä"}, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text("{}\n")
    record = InputRecord(
        role="tokens", name="texts", kind="curate", key=parent.manifest.key, content="", path="../texts"
    )
    return write_manifest(folder, spec_of(folder, config), inputs=[record])


def a_spec() -> ModelSpec:
    return ModelSpec(config={}, n_parameters=0, weight_bytes=0)


def spec_of(folder: Path, config: DecoderConfig) -> ModelSpec:
    return ModelSpec(
        config=config.model_dump(mode="json"),
        n_parameters=sum(config.parameter_counts().values()),
        weight_bytes=(folder / "model.safetensors").stat().st_size,
        format=read_format(folder),
    )


@pytest.fixture
def device() -> DeviceProfile:
    rates = {
        "quantize.params_per_s": Rate(per_s=1e6, spread=0.5, unit="parameters"),
        "export.bytes_per_s": Rate(per_s=1e7, spread=0.5, unit="B"),
    }
    # only what these stages read of a profile; its other fields are none of their business
    return DeviceProfile.model_construct(copy_bytes_per_s=1e10, process_bytes=300 << 20, rates=rates)
