"""One of several processes that train together: ``python worker.py CASES.json``, started with torchrun's variables.

Each case is a tiny run; the first process writes its losses, gradient norms and final weights to the case's folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from arriero.cost.operations import tensors
from arriero.cost.trace import trace_parts
from arriero.models.checkpoint import build_model
from arriero.models.decoder_config import DecoderConfig
from arriero.models.seq2seq import Seq2Seq
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.planning.counts.objectives import planned_objective
from arriero.planning.memory.layouts import _seen_resizes
from arriero.planning.memory.log import StorageLog
from arriero.training.feed import Feed
from arriero.training.loop import train
from arriero.training.objectives.base import Shape
from arriero.training.objectives.causal import CausalObjective
from arriero.training.objectives.dpo import DpoObjective, answer_log_probs, pair_batch
from arriero.training.objectives.dpo import Pair as PreferencePair
from arriero.training.objectives.head import head_parameters
from arriero.training.objectives.seq2seq import Pair as TextPair
from arriero.training.objectives.seq2seq import Seq2SeqObjective
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.optimizers.make import make_optimizer
from arriero.training.parallel.team import RankDone, arrange
from arriero.training.precision import Arithmetic
from arriero.training.recompute import wrap_blocks
from arriero.training.settings import TrainSettings
from arriero.training.traced import Work
from arriero.tuning.lora import apply_lora

HELD_OUT = 12
STEPS = 5
"""Whose memory is looked at."""
LLAMA: dict[str, Any] = {
    "vocab_size": 67, "d_model": 32, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "d_ff": 48,
    "context_length": 32,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "untied": {"tie_embeddings": False},
    "gpt2": {
        "family": "gpt2", "norm": "layer", "positions": "learned", "n_kv_heads": 4, "activation": "gelu_tanh",
        "gated": False, "qkv_bias": True, "out_bias": True, "feed_forward_bias": True,
    },
    "gpt1": {
        "family": "gpt1", "norm": "layer", "positions": "learned", "n_kv_heads": 4, "arrangement": "post",
        "final_norm": False, "gated": False, "activation": "gelu_tanh", "qkv_bias": True,
    },
    "bloom": {
        "family": "bloom", "norm": "layer", "positions": "alibi", "n_kv_heads": 4, "embedding_norm": True,
        "gated": False, "activation": "gelu_tanh", "qkv_bias": True, "out_bias": True, "feed_forward_bias": True,
    },
    "falcon": {"family": "falcon", "norm": "layer", "arrangement": "parallel", "parallel_norms": 1, "gated": False},
    "mistral": {"family": "mistral", "sliding_window": 7},
}  # fmt: skip


class Context:
    """What a stage gets, as far as the loop uses it. Only the first process writes."""

    def __init__(self, folder: Path, stop_at: int | None = None, hang: list[int] | None = None) -> None:
        self.folder = self.state = folder
        self.seed, self.stop_at, self.hang = 5, stop_at, hang
        self.asked = 0
        self.lines: list[dict[str, Any]] = []
        self.flops = 0.0
        self.done = 0.0
        self.said: list[str] = []

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        self.done = done

    def log(self, **figures: Any) -> None:
        self.lines.append(figures)

    def say(self, line: str) -> None:
        self.said.append(line)
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def stop_requested(self) -> bool:
        self.asked += 1
        here = [int(os.environ["RANK"]), self.asked] if self.hang else None
        if here == self.hang is not None and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            time.sleep(600)
        return self.stop_at is not None and self.done >= self.stop_at

    def count_flops(self, flops: float) -> None:
        self.flops += flops


class Counted:
    """One FLOP a token, so that sums are easy to check."""

    def training(self, batch: Any) -> float:
        return float(batch.ids.numel())

    def evaluation(self, batch: Any) -> float:
        return 0.0

    def update(self) -> float:
        return 1.0


class Documents:
    """Windows of random text, with documents of uneven lengths."""

    def __init__(self, count: int, length: int) -> None:
        draw = np.random.default_rng(7)
        self.ids = draw.integers(0, 67, (count, length + 1))
        self.segments = np.cumsum(draw.random((count, length + 1)) < 0.1, axis=1)

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.ids[list(indices)], self.segments[list(indices)]


def causal(count: int = 60, mask: bool = True) -> CausalObjective:
    return CausalObjective(Documents(count, 32), 32, document_mask=mask)


def sft(count: int = 60) -> SftObjective:
    draw = np.random.default_rng(3)
    rows = []
    for length in draw.integers(5, 32, count):
        rows.append(Row(draw.integers(0, 67, length), draw.random(length) < 0.6))
    return SftObjective(rows)


def dpo(model: Any, count: int = 60) -> DpoObjective:
    draw = np.random.default_rng(4)

    def row() -> Row:
        length = int(draw.integers(5, 32))
        return Row(draw.integers(0, 67, length), np.arange(length) > 2)

    pairs = [PreferencePair(row(), row()) for _ in range(count)]
    with torch.no_grad():
        batch = pair_batch(pairs, torch.zeros(2 * count), 32)
        reference = answer_log_probs(model, batch).view(2, count).t().contiguous()
    return DpoObjective(pairs, reference, beta=0.1, label_smoothing=0.1, nll_coef=0.2)


def smoothed(count: int = 60) -> Seq2SeqObjective:
    draw = np.random.default_rng(6)
    pairs = [TextPair(*(draw.integers(3, 67, draw.integers(3, 20)) for _ in range(2))) for _ in range(count)]
    return Seq2SeqObjective(pairs, 1, label_smoothing=0.1)


def make_objective(case: dict[str, Any], model: Any, count: int = 60) -> Any:
    name = case.get("objective", "causal")
    if name == "dpo":
        return dpo(model, count)
    if name == "unmasked":
        return causal(count, mask=False)
    return {"causal": causal, "sft": sft, "smoothed": smoothed}[name](count)


def make_model(case: dict[str, Any]) -> Any:
    """A tiny network with weights drawn; with adapters where the case says so."""
    family = case.get("family", "llama")
    if family == "transformer":
        model = Seq2Seq(
            Seq2SeqConfig(
                vocab_size=67, d_model=32, encoder_layers=2, decoder_layers=2, encoder_heads=4, decoder_heads=4,
                encoder_d_ff=48, decoder_d_ff=48, context_length=32, pad_id=0, eos_id=2, start_id=1, dropout=0.0,
            )
        )  # fmt: skip
    else:
        model = build_model(DecoderConfig(**{**LLAMA, **FAMILIES[family]}))
    model.init_weights(1)
    if case.get("lora"):
        apply_lora(model, 4, 8.0, 0.0, "all-linear", 0)
    return model


def settings_of(case: dict[str, Any]) -> TrainSettings:
    given = {
        "duration": "20 steps", "batch_size": 8, "micro_batch_size": 2, "learning_rate": 3e-3, "log_every": 1,
        "precision": "fp32", "checkpoint_every": "1000 steps", "eval_every": 10, "threads": 1, "warmup": "2 steps",
    }  # fmt: skip
    return TrainSettings(**{**given, **case.get("settings", {})})


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Train; raises RankDone in all but the first process."""
    folder = Path(case["folder"])
    model = make_model(case)
    context = Context(folder, case.get("stop_at"), case.get("hang"))
    result = train(
        model, make_objective(case, model), settings_of(case), context, arithmetic=Arithmetic(case.get("precision", "fp32"), 1), heldout=make_objective(case, model, HELD_OUT),
        flops=Counted(),
    )  # fmt: skip
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    steps = [line for line in context.lines if "grad_norm" in line]
    return {
        "loss": [line["loss"] for line in steps],
        "grad_norm": [line["grad_norm"] for line in steps],
        "heldout": [line["heldout_loss"] for line in context.lines if "heldout_loss" in line],
        "tokens": result.totals.tokens, "flops": context.flops, "said": context.said, "weights": weights,
    }  # fmt: skip


def passes(case: dict[str, Any]) -> tuple[Any, Any, Callable[[], Any]]:
    """(model, its team, a call that works one step's gradients out and gives its samples)."""
    settings = settings_of(case)
    model, objective = make_model(case), sft()
    team = arrange(model, objective, settings)
    wrap_blocks(team.model, settings.activation_checkpointing)
    shared = team.objective(objective)

    def take() -> Any:
        feed = Feed(shared, 5, settings.micro_batch_size, torch.device("cpu"), team.count)
        data = feed.step(settings.batch_size, 16)
        feed.close()
        team.accumulate(team.model, shared, data.batches, data.weight, "fp32")
        return data

    return model, team, take


def gradient(case: dict[str, Any]) -> dict[str, Any]:
    """The gradient of one step of eight samples; weights are whole in each process (shard none)."""
    model, team, take = passes(case)
    take()
    team.finish_gradients()
    return {"gradient": {name: p.grad.clone() for name, p in model.named_parameters()}}


def shapes_of(case: dict[str, Any]) -> list[Shape]:
    rows, length = case["rows"], case["length"]
    return [Shape(rows, length, rows * length)] * case["batches"]


def work_of(case: dict[str, Any]) -> Work:
    config = DecoderConfig(**{**LLAMA, **FAMILIES[case.get("family", "llama")], **case.get("sizes", {})})
    return Work(
        config, planned_objective(config, "sft", case["length"]), settings_of(case), case["precision"]
    )


def memory(case: dict[str, Any]) -> dict[str, Any]:
    """Most live bytes of a step after the first in every process, as the tracker of real steps sees them.

    Of several steps the least: gloo's thread may hold a collective's tensors for a moment after it said that it was done.
    """
    work, model_bytes = work_of(case), StorageLog(0, 1)
    model = build_model(work.config)

    def make() -> list[Any]:
        model.init_weights(1)
        head_parameters(model)
        wrap_blocks(model, work.settings.activation_checkpointing)
        team = arrange(model, work.objective, work.settings)
        optimizer = make_optimizer(model, work.settings)
        shared = team.objective(work.objective)
        shares = [shared._share(work.objective.synthetic(shape), False) for shape in shapes_of(case)]
        for found in (
            *team.model.parameters(),
            *team.model.buffers(),
            *model.buffers(),
            *tensors(dict(optimizer.state)),
        ):
            model_bytes.add(_part(found))
        return [model, team, optimizer, shared, *shares]

    def step(state: list[Any]) -> None:
        model, team, optimizer, shared, *shares = state
        weight = sum(work.objective.weight(share.part) for share in shares)
        team.accumulate(team.model, shared, shares, weight, case["precision"])
        team.finish_gradients()
        trained = [p for p in model.parameters() if p.requires_grad]
        torch.nn.utils.clip_grads_with_norm_(trained, 1.0, torch.ones(()))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with _seen_resizes(model_bytes):
        _, *others = trace_parts(make, *[step] * (1 + STEPS), fake=False, live=model_bytes)
    peak = min(found.peak_bytes for found in others)
    peaks = torch.zeros(torch.distributed.get_world_size(), dtype=torch.int64)
    peaks[torch.distributed.get_rank()] = peak
    torch.distributed.all_reduce(peaks)
    return {"peaks": peaks.tolist()}


def traffic(case: dict[str, Any]) -> dict[str, Any]:
    """Collectives of one step's passes, by name, after a step that settled all shapes."""
    model, _, take = passes(case)
    take()
    model.zero_grad(set_to_none=True)
    with _Collectives() as seen:
        data = take()
    return {"counts": dict(seen.counts), "sent": seen.sent, "batches": len(data.batches)}


class _Collectives(TorchDispatchMode):
    """Counts torch.distributed's operations, by name, and the values that are sent to one other process."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.sent = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation.namespace in ("c10d", "_c10d_functional"):
            self.counts[operation.name()] += 1
        if operation.name() == "c10d::send":
            self.sent += sum(tensor.numel() for tensor in args[0])
        return operation(*args, **(kwargs or {}))


def _part(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def main() -> None:
    torch.set_num_threads(1)
    for case in json.loads(Path(sys.argv[1]).read_text()):
        try:
            found = {"gradient": gradient, "memory": memory, "traffic": traffic}.get(
                case.get("what", ""), run
            )(case)
        except RankDone:
            continue
        except Exception as error:  # told to the test, and the next case goes on where the group allows it
            if case.get("raises"):
                raise
            found = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        if os.environ["RANK"] == "0":
            torch.save(found, case["result"])


if __name__ == "__main__":
    main()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
