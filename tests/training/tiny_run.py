"""Tiny training runs in processes of their own, to be killed: ``python tiny_run.py``.

Each line on the standard input, ``FOLDER KIND [NAME=VALUE ...]``, starts a run in a process forked from this one, which
has all the modules loaded already; its process id is printed. What the run says goes to ``FOLDER/output``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch._dynamo

from arriero.errors import ArrieroError
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.recurrent import Recurrent
from arriero.models.recurrent_config import RecurrentConfig
from arriero.recipe.context import RunContext
from arriero.recipe.stop import StopFlag
from arriero.training.loop import train
from arriero.training.model_folder import full_disk_is_an_error
from arriero.training.objectives.causal import CausalObjective
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.objectives.stream import StreamObjective
from arriero.training.precision import kept_arithmetic
from arriero.training.settings import TrainSettings
from arriero.training.traced import TracedFlops, Work
from arriero.tuning.lora import apply_lora, lora_state_dict

CONFIG = DecoderConfig(
    vocab_size=64, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=64, context_length=32,
    dropout=0.1,
)  # fmt: skip


class Windows:
    """Windows of 16 of a made-up stream whose documents have 23 tokens."""

    ids = np.random.default_rng(0).integers(0, 64, 2000)

    def __len__(self) -> int:
        return 120

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        places = np.asarray(indices)[:, None] * 16 + np.arange(17)
        return self.ids[places], places // 23 - places[:, :1] // 23


def pretrained_decoder() -> tuple[Any, Any, Any]:
    model = Decoder(CONFIG)
    model.init_weights(0)
    objective = CausalObjective(Windows(), 16, True)
    return model, objective, objective


def adapted_decoder() -> tuple[Any, Any, Any]:
    draw = np.random.default_rng(0)
    rows = [Row(draw.integers(0, 64, n), np.ones(n, dtype=bool)) for n in draw.integers(4, 32, 30)]
    model = Decoder(CONFIG)
    model.init_weights(0)
    apply_lora(model, 4, 8.0, 0.2, "all-linear", 0)
    return model, SftObjective(rows), SftObjective(rows)


def streaming_lstm() -> tuple[Any, Any, Any]:
    model = Recurrent(RecurrentConfig(family="lstm", vocab_size=64, d_model=24, n_layers=2, dropout=0.2))
    model.init_weights(0)
    heldout = StreamObjective(Windows(), 16, True, streams=3, limit=9)
    return model, StreamObjective(Windows(), 16, True, streams=4), heldout


class Output:
    """A display, and a meter: what is told goes to ``FOLDER/output``, the arithmetic to ``FOLDER/flops``."""

    def __init__(self, folder: Path, pause: float) -> None:
        self._file = (folder / "output").open("a")
        self._flops = (folder / "flops").open("a")
        self._pause = pause

    def progress(self, done: float, total: float | None, unit: str, figures: dict[str, Any]) -> None:
        self._file.write(f"{done:.0f}\n")
        self._file.flush()
        time.sleep(self._pause)

    def say(self, line: str) -> None:
        self._file.write(f"said: {line}\n")
        self._file.flush()

    def count_flops(self, flops: float) -> None:
        self._flops.write(f"{flops!r}\n")
        self._flops.flush()

    def result(self) -> Any:
        return SimpleNamespace(estimate=SimpleNamespace(money=SimpleNamespace(value=None, unit="")))


def run(folder: Path, kind: str, *options: str) -> None:
    """One run; ``pause=0.1`` makes it that many seconds slower a step, ``state=PATH`` keeps its state there."""
    values = dict(option.split("=", 1) for option in options)
    state = Path(values.pop("state", folder))
    output: Any = Output(folder, float(values.pop("pause", "0")))
    given = {name: json.loads(value) for name, value in values.items()}
    made = {"pretrain": pretrained_decoder, "lora": adapted_decoder, "lstm": streaming_lstm}[kind]
    model, objective, heldout = made()
    settings = TrainSettings.model_validate(
        {"duration": "120 steps", "batch_size": 4, "learning_rate": 1e-2, "precision": "fp32", "log_every": 3,
         "checkpoint_every": "4 steps", "threads": 1, "eval_every": 25, "eval_samples": 9, **given}
    )  # fmt: skip
    stop, place = StopFlag(), SimpleNamespace(partial=folder, state=state)
    context = RunContext(place, 5, output, stop, output)  # type: ignore[arg-type]
    arithmetic = kept_arithmetic(settings, folder)
    flops = TracedFlops(Work(model.config, objective, settings, arithmetic.precision))
    with stop.on_signals(output):
        train(model, objective, settings, context, arithmetic=arithmetic, heldout=heldout, flops=flops)
    context.close()
    weights = sorted((lora_state_dict(model) if kind == "lora" else dict(model.named_parameters())).items())
    with full_disk_is_an_error(folder):
        (folder / "weights.bin").write_bytes(b"".join(w.detach().numpy().tobytes() for _, w in weights))


def main() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what was killed
    for line in sys.stdin:
        folder, *rest = line.split()
        Path(folder).mkdir(exist_ok=True)
        child = os.fork()
        if child == 0:
            code = 0
            try:
                run(Path(folder), *rest)
            except ArrieroError as error:
                (Path(folder) / "ended").write_text(str(error))
                code = error.exit_code
            except KeyboardInterrupt:
                code = 130
            except BaseException:
                import traceback

                (Path(folder) / "ended").write_text(traceback.format_exc())
                code = 1
            (Path(folder) / "code").write_text(str(code))
            os._exit(code)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
