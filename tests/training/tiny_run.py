"""A tiny training run in a process of its own, to be killed: ``python tiny_run.py FOLDER PRECISION lora|lstm``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.recurrent import Recurrent
from arriero.models.recurrent_config import RecurrentConfig
from arriero.training.loop import train
from arriero.training.model_folder import full_disk_is_an_error
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.objectives.stream import StreamObjective
from arriero.training.precision import kept_arithmetic
from arriero.training.settings import TrainSettings
from arriero.tuning.lora import apply_lora, lora_state_dict


class Context:
    def __init__(self, root: Path) -> None:
        self.folder = self.state = root
        self.seed = 5
        self._metrics = (root / "metrics.jsonl").open("a")

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        sys.stdout.write(f"{done:.0f}\n")
        sys.stdout.flush()

    def log(self, **figures: Any) -> None:
        self._metrics.write(json.dumps(figures) + "\n")
        self._metrics.flush()

    def say(self, line: str) -> None:
        sys.stdout.write(f"said: {line}\n")

    def stop_requested(self) -> bool:
        return False

    def count_flops(self, flops: float) -> None:
        pass


def adapted_decoder() -> tuple[Any, Any, list[torch.Tensor]]:
    draw = np.random.default_rng(0)
    rows = [Row(draw.integers(0, 64, n), np.ones(n, dtype=bool)) for n in draw.integers(4, 32, 30)]
    config = DecoderConfig(
        vocab_size=64, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=64, context_length=32
    )
    model = Decoder(config)
    model.init_weights(0)
    apply_lora(model, 4, 8.0, 0.2, "all-linear", 0)
    return model, SftObjective(rows), [tensor for _, tensor in sorted(lora_state_dict(model).items())]


def streaming_lstm() -> tuple[Any, Any, list[torch.Tensor]]:
    model = Recurrent(RecurrentConfig(family="lstm", vocab_size=64, d_model=24, n_layers=2, dropout=0.2))
    model.init_weights(0)
    return model, StreamObjective(Stream(), 16, True, streams=4), list(model.parameters())


class Stream:
    """Windows of 16 of a made-up stream whose documents have 23 tokens."""

    ids = np.random.default_rng(0).integers(0, 64, 2000)

    def __len__(self) -> int:
        return 120

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        places = np.asarray(indices)[:, None] * 16 + np.arange(17)
        return self.ids[places], places // 23 - places[:, :1] // 23


def main(root: Path, precision: str, kind: str) -> None:
    root.mkdir(exist_ok=True)
    model, objective, weights = {"lora": adapted_decoder, "lstm": streaming_lstm}[kind]()
    settings = TrainSettings.model_validate(
        {"duration": "60 steps", "batch_size": 4, "learning_rate": 1e-2, "precision": precision, "log_every": 3,
         "checkpoint_every": "4 steps", "threads": 1}
    )  # fmt: skip
    context = Context(root)
    arithmetic = kept_arithmetic(settings, root)
    heldout = objective if kind == "lora" else StreamObjective(Stream(), 16, True, streams=3, limit=9)
    train(model, objective, settings, context, arithmetic=arithmetic, heldout=heldout)
    with full_disk_is_an_error(root):
        (root / "weights.bin").write_bytes(b"".join(w.detach().numpy().tobytes() for w in weights))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
