"""A tiny decoder, made-up samples, and what a run hands to a stage."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.training import loop
from arriero.training.objectives.causal import CausalObjective
from arriero.training.objectives.sft import Row
from arriero.training.precision import Arithmetic

CONFIG = DecoderConfig(
    vocab_size=64, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=64, context_length=32
)


class RunContext:
    """Keeps what a stage reports and, as the real one does, a metrics file that is open for appending.

    ``stop_at`` asks to stop when the progress reaches that many steps.
    """

    def __init__(self, root: Path, seed: int = 3, stop_at: int | None = None) -> None:
        self.folder, self.state, self.seed = root / "folder", root / "state", seed
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(exist_ok=True)
        self.metrics = self.state / "metrics.jsonl"
        self._file = self.metrics.open("a", encoding="utf-8")
        self.stop_at = stop_at
        self.said: list[str] = []
        self.done: list[float] = []
        self.flops = 0.0

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        if unit == "steps":
            self.done.append(done)

    def log(self, **figures: Any) -> None:
        self._file.write(json.dumps(figures) + "\n")
        self._file.flush()

    def say(self, line: str) -> None:
        self.said.append(line)

    def stop_requested(self) -> bool:
        return self.stop_at is not None and bool(self.done) and self.done[-1] >= self.stop_at

    def count_flops(self, flops: float) -> None:
        self.flops += flops

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]


class MadeUpWindows:
    """Windows of a simple sequence, so that something can be learnt; two documents in each."""

    def __init__(self, count: int, length: int) -> None:
        self._count, self._length = count, length

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        place = np.arange(self._length + 1)
        ids = np.stack([(5 * i + 3 * place) % 61 for i in indices]).astype(np.int64)
        segments = np.tile((place >= self._length // 3).astype(np.int64), (len(indices), 1))
        return ids, segments


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from a second thread, and wait for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loop says must not depend on whether this machine was calibrated."""
    monkeypatch.setattr(loop, "load_profile", lambda: None)


@pytest.fixture
def make_model() -> Callable[..., Decoder]:
    def make(seed: int = 0, **changes: Any) -> Decoder:
        model = Decoder(CONFIG.model_copy(update=changes))
        model.init_weights(seed)
        return model

    return make


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., RunContext]:
    counter = itertools.count()
    return lambda **options: RunContext(
        options.pop("root", None) or tmp_path / f"run{next(counter)}", **options
    )


@pytest.fixture
def causal() -> CausalObjective:
    return CausalObjective(MadeUpWindows(40, 24), 24, document_mask=True)


@pytest.fixture
def rows() -> list[Row]:
    """Rows of very uneven lengths."""
    draw = np.random.default_rng(0)
    lengths = [3, 30, 5, 12, 7, 22, 4, 17]
    return [Row(draw.integers(0, 64, n), draw.random(n) < 0.5) for n in lengths]


@pytest.fixture
def fp32() -> Arithmetic:
    return Arithmetic("fp32", 1)
