"""How long a checkpoint holds up training: ``python benchmarks/checkpoints.py [--million 34] [--folder DIR]``.

Two things are measured. First a state of that many million parameters with AdamW's two moments, saved alone: in the
background, as it was done before (everything at once: write, fsync, hash, rename), and through torch's own file format
(``torch.distributed.checkpoint.save`` with its FileSystemWriter, which is not durable: no hash, no marker). Then the same
training run with many checkpoints in the background, with as many at once, and with none: seconds, and whether the bits
of the weights are the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.training.checkpoints.retention import Retention
from arriero.training.checkpoints.store import CheckpointStore
from arriero.training.loop import train
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings

ROUNDS = 5


def state_of(million: float) -> dict[str, torch.Tensor]:
    """Weights and two moments, as 100 layers' worth of tensors."""
    rows = int(million * 1e6 / 100 / 512)
    kinds = ("model", "optimizer.exp_avg", "optimizer.exp_avg_sq")
    return {f"{kind}.layer{n}": torch.randn(rows, 512) for kind in kinds for n in range(100)}


def middle(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]


def saving_alone(million: float, folder: Path) -> dict[str, Any]:
    state = state_of(million)
    size = sum(tensor.nbytes for tensor in state.values())
    store = CheckpointStore(folder / "ours", Retention(1), print)
    blocked, whole = [], []
    for step in range(ROUNDS + 1):
        start = time.perf_counter()
        store.save(step, state, {}, wait=False)
        blocked.append(time.perf_counter() - start)
        store.settle()
        whole.append(time.perf_counter() - start)
    found = store.newest()
    assert found is not None
    target = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    start = time.perf_counter()
    store.load(found, target)
    load = time.perf_counter() - start
    assert all(torch.equal(target[name], tensor) for name, tensor in state.items())
    del target
    shutil.rmtree(folder / "ours")
    return {
        "bytes": size,
        "blocked_s": middle(blocked[1:]),
        "whole_s": middle(whole[1:]),
        "torch_format_s": middle(torch_format(state, folder)),
        "load_s": load,
    }


def torch_format(state: dict[str, torch.Tensor], folder: Path) -> list[float]:
    import torch.distributed.checkpoint as dcp

    times = []
    for _ in range(3):
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save(dict(state), checkpoint_id=str(folder / "torch"), no_dist=True)
        times.append(time.perf_counter() - start)
        shutil.rmtree(folder / "torch")
    return times


def context_in(folder: Path) -> Any:
    folder.mkdir()
    nothing = lambda *args, **figures: None  # noqa: E731
    return SimpleNamespace(
        folder=folder, state=folder, seed=1, progress=nothing, log=nothing, say=nothing, count_flops=nothing,
        stop_requested=lambda: False,
    )  # fmt: skip


def training(folder: Path, steps: int, every: str, background: bool) -> tuple[float, list[torch.Tensor]]:
    """Seconds of the loop, without the last checkpoint, which is always waited for; and the weights."""
    config = DecoderConfig(
        vocab_size=8192,
        d_model=256,
        n_layers=6,
        n_heads=4,
        n_kv_heads=4,
        head_dim=64,
        d_ff=768,
        context_length=128,
    )
    model = Decoder(config)
    model.init_weights(0)
    draw = np.random.default_rng(0)
    rows = [Row(draw.integers(0, 8192, 128), np.ones(128, dtype=bool)) for _ in range(64)]
    settings = TrainSettings.model_validate(
        {"duration": f"{steps} steps", "batch_size": 8, "precision": "fp32", "checkpoint_every": every,
         "async_checkpoints": background}
    )  # fmt: skip
    threads = torch.get_num_threads()
    result = train(
        model, SftObjective(rows), settings, context_in(folder), arithmetic=Arithmetic("fp32", threads)
    )
    return result.totals.seconds, [p.detach().clone() for p in model.parameters()]


def saving_while_training(folder: Path, steps: int) -> dict[str, Any]:
    ways = {"none": ("99999 steps", True), "background": ("5 steps", True), "at once": ("5 steps", False)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    weights = {}
    for number in range(3):
        for way, (every, background) in ways.items():
            taken, weights[way] = training(folder / f"{way}-{number}", steps, every, background)
            seconds[way].append(taken)
    same = all(torch.equal(a, b) for way in ways for a, b in zip(weights[way], weights["none"], strict=True))
    return {
        "seconds": {way: middle(times) for way, times in seconds.items()},
        "checkpoints": steps // 5,
        "same_bits": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--million", type=float, default=34.0, help="parameters of the state that is saved alone"
    )
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write (a folder for temporary files)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20, help="steps of the training runs; 0 leaves them out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="arriero-", dir=options.folder) as folder:
        found = saving_alone(options.million, Path(folder))
        gb = found["bytes"] / 1e9
        print(
            f"state of {options.million:g} million parameters with AdamW, {gb:.2f} GB, middle of {ROUNDS} saves:"
        )
        print(
            f"  training waits, in the background   {found['blocked_s']:7.3f} s   {gb / found['blocked_s']:6.2f} GB/s"
        )
        print(
            f"  training waits, all at once         {found['whole_s']:7.3f} s   {gb / found['whole_s']:6.2f} GB/s"
        )
        print(f"  torch's own format, not durable     {found['torch_format_s']:7.3f} s")
        print(f"  loading, without the check          {found['load_s']:7.3f} s")
        if options.steps:
            found |= saving_while_training(Path(folder), options.steps)
            seconds, count = found["seconds"], found["checkpoints"]
            print(
                f"{options.steps} training steps with {count} checkpoints and the last one, middle of 3 runs:"
            )
            for way, taken in seconds.items():
                extra = (taken - seconds["none"]) / count if way != "none" else 0.0
                print(f"  {way:12} {taken:7.2f} s   {1000 * extra:6.0f} ms more a checkpoint")
            print(f"  same bits: {found['same_bits']}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
