"""One contender of `benchmarks/training.py` in a process of its own: trains, prints a JSON line, and is gone.

Every contender starts from the same weights (a Hugging Face folder that the parent wrote), reads the same rows in the
same order, and uses fused AdamW with the same settings. All of them run with Arriero's settings of the C library (freed
memory is kept, which spares the page faults of a fresh map; small blocks are not cached, which lets freed tensors be
reused); ``hf-trainer-own-malloc`` is as it comes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LEARNING_RATE, BETAS, EPS, DECAY, CLIP = 3e-4, (0.9, 0.95), 1e-8, 0.1, 1.0
_UNSCORED = -100


@dataclass(frozen=True)
class Job:
    """What one process is to do.

    Attributes:
        contender: a key of CONTENDERS. task: ``lm`` (full rows) or ``sft`` (chats; the assistant's words are scored).
        folder: the model, as Hugging Face has it. rows, length: of a batch. steps: optimizer steps.
    """

    contender: str
    task: str
    folder: str
    precision: str
    rows: int
    length: int
    steps: int
    vocab_size: int
    threads: int


@dataclass(frozen=True)
class Text:
    """One row: token ids, and which of them are scored (never the first)."""

    ids: np.ndarray
    scored: np.ndarray


def texts(job: Job) -> list[Text]:
    """The rows of all steps, in order. Ids follow Zipf's law; in chats every second stretch is the assistant's."""
    rng = np.random.default_rng(0)
    frequencies = 1.0 / (np.arange(job.vocab_size - 4) + 10.0)
    count = job.rows * job.steps
    lengths = np.full(count, job.length)
    if job.task == "sft":  # like a set of short conversations: few are long
        lengths = np.clip(rng.lognormal(np.log(0.45 * job.length), 0.5, count), 24, job.length).astype(int)
    found = []
    for length in lengths:
        ids = 4 + rng.choice(job.vocab_size - 4, length, p=frequencies / frequencies.sum())
        scored = np.ones(length, dtype=bool)
        if job.task == "sft":
            scored[: int(length * rng.uniform(0.3, 0.6))] = False
        scored[0] = False
        found.append(Text(ids.astype(np.int64), scored))
    return found


# ---------------------------------------------------------------- Arriero


class _Context:
    """What the loop reports, with the time of every step; a metrics file is written as in a real run."""

    seed = 0

    def __init__(self, root: Path) -> None:
        self.folder, self.state = root / "folder", root / "state"
        self.folder.mkdir()
        self.state.mkdir()
        self.times: list[float] = []
        self.losses: list[float] = []
        self._metrics = (self.state / "metrics.jsonl").open("a", encoding="utf-8")

    def progress(self, done: float, total: float | None, unit: str, **figures: Any) -> None:
        if "loss" in figures:
            self.times.append(time.perf_counter())
            self.losses.append(float(figures["loss"]))

    def log(self, **figures: Any) -> None:
        self._metrics.write(json.dumps(figures) + "\n")
        self._metrics.flush()

    def say(self, line: str) -> None:
        print(line, file=sys.stderr)

    def stop_requested(self) -> bool:
        return False

    def count_flops(self, flops: float) -> None:
        pass


def _ours(job: Job) -> Any:
    """The model as Arriero reads it."""
    from arriero.models.checkpoint import load_model

    model = load_model(Path(job.folder), dtype="float32")
    return model.train()


def _objective(job: Job) -> Any:
    """Arriero's objective over the rows; the loop's own order of samples is undone, so that all read the same."""
    from arriero.training.batches import SampleOrder
    from arriero.training.objectives.causal import CausalObjective
    from arriero.training.objectives.sft import Row, SftObjective

    order = SampleOrder(job.rows * job.steps, _Context.seed).take(0, job.rows * job.steps)
    placed: list[Any] = [None] * len(order)
    for index, text in zip(order, texts(job), strict=True):
        placed[index] = text
    if job.task == "sft":
        return SftObjective([Row(text.ids, text.scored) for text in placed], room=job.length)

    class Windows:
        def __len__(self) -> int:
            return len(placed)

        def batch(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
            ids = np.stack([np.append(placed[i].ids, 0) for i in indices])
            segments = np.zeros_like(ids)
            segments[:, -1] = 1  # the rivals have no target for the last token of a row
            return ids, segments

    return CausalObjective(Windows(), job.length, document_mask=False)


def _settings(job: Job) -> Any:
    from arriero.training.settings import TrainSettings

    return TrainSettings(
        duration=f"{job.steps} steps", batch_size=job.rows, learning_rate=LEARNING_RATE, schedule="constant",
        warmup="1 steps", weight_decay=DECAY, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, grad_clip=CLIP,
        precision=job.precision, threads=job.threads, checkpoint_every="60 minutes",
    )  # fmt: skip


def run_arriero(job: Job) -> dict[str, Any]:
    """The training loop as the stages run it: meters, logs, checks and FLOP count on; a checkpoint at the end."""
    from arriero.training import loop
    from arriero.training.precision import Arithmetic
    from arriero.training.traced import TracedFlops, Work

    model, objective, settings = _ours(job), _objective(job), _settings(job)
    flops = TracedFlops(Work(model.config, objective, settings, settings.precision))
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as root:
        context = _Context(Path(root))
        _time_what_a_bare_step_has(loop, bare)
        reset_peak()
        loop.train(
            model,
            objective,
            settings,
            context,
            arithmetic=Arithmetic(settings.precision, job.threads),
            flops=flops,
        )
    # the work of each step that a bare loop would do too, over the whole of it
    share = sum(bare[2:]) / (context.times[-1] - context.times[1])
    return {"times": context.times, "losses": context.losses, "overhead": 1 - share}


def _time_what_a_bare_step_has(loop: Any, seconds: list[float]) -> None:
    """Collects, step by step, the seconds in gradients, clipping and the update."""
    from arriero.training.parallel.team import Team

    spent = 0.0

    def timed(work: Callable[..., Any], last: bool = False) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            started = time.perf_counter()
            result = work(*args, **kwargs)
            spent += time.perf_counter() - started
            if last:
                seconds.append(spent)
                spent = 0.0
            return result

        return run

    Team.accumulate = timed(Team.accumulate)
    Team.clip = timed(Team.clip)
    make = loop.make_optimizer

    def make_timed(*args: Any, **kwargs: Any) -> Any:
        optimizer = make(*args, **kwargs)
        optimizer.step = timed(optimizer.step)
        optimizer.zero_grad = timed(optimizer.zero_grad, last=True)
        return optimizer

    loop.make_optimizer = make_timed


def run_plain_ours(job: Job) -> dict[str, Any]:
    """A hand-written loop over Arriero's model with the whole logits."""
    model = _ours(job)
    return _plain(job, model, model)


# ---------------------------------------------------------------- the others


def _theirs(job: Job) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False
    return model.train()


def run_plain_theirs(job: Job) -> dict[str, Any]:
    """A hand-written loop over transformers' model."""
    model = _theirs(job)
    return _plain(job, model, lambda ids: model(ids).logits)


def _plain(job: Job, model: Any, logits: Callable[[Any], Any]) -> dict[str, Any]:
    import torch
    import torch.nn.functional as F

    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPS, fused=True)
    ids = torch.from_numpy(np.stack([text.ids for text in texts(job)])).view(job.steps, job.rows, job.length)
    times, losses = [], []
    reset_peak()
    for batch in ids:
        with torch.autocast("cpu", torch.bfloat16) if job.precision == "bf16" else nullcontext():
            scores = logits(batch)
            loss = F.cross_entropy(scores[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter())
        losses.append(loss.item())
    return {"times": times, "losses": losses}


def _arguments(job: Job, folder: str) -> dict[str, Any]:
    """The Trainer's settings; its dataloader, logging and saving do not stand in its way."""
    return {
        "output_dir": folder, "max_steps": job.steps, "per_device_train_batch_size": job.rows, "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": DECAY, "adam_beta1": BETAS[0], "adam_beta2": BETAS[1],
        "adam_epsilon": EPS, "max_grad_norm": CLIP, "optim": "adamw_torch_fused", "bf16": job.precision == "bf16", "use_cpu": True,
        "logging_strategy": "no", "save_strategy": "no", "report_to": [], "disable_tqdm": True, "dataloader_num_workers": 0,
        "gradient_checkpointing": False, "remove_unused_columns": False, "seed": 0,
    }  # fmt: skip


def _run_trainer(base: type, model: Any, job: Job, **kwargs: Any) -> dict[str, Any]:
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    times: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

    class InOrder(base):  # type: ignore[misc,valid-type]
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(self.train_dataset)

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            losses.append(float(loss))
            return loss

    trainer = InOrder(model=model, callbacks=[Clock()], **kwargs)
    reset_peak()
    trainer.train()
    return {"times": times, "losses": losses}


def run_trainer(job: Job) -> dict[str, Any]:
    """Hugging Face's Trainer over transformers' model."""
    import torch
    from transformers import Trainer, TrainingArguments

    rows = [torch.from_numpy(text.ids) for text in texts(job)]
    with tempfile.TemporaryDirectory() as folder:
        return _run_trainer(
            Trainer, _theirs(job), job, args=TrainingArguments(**_arguments(job, folder)),
            train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        )  # fmt: skip


def run_trl(job: Job, padding_free: bool = False) -> dict[str, Any]:
    """TRL's SFTTrainer over rows that are tokenised and labelled already, gradient checkpointing off."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"input_ids": text.ids.tolist(), "labels": np.where(text.scored, text.ids, _UNSCORED).tolist()}
        for text in texts(job)
    ]
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            **_arguments(job, folder), max_length=None if padding_free else job.length, packing=False,
            padding_free=padding_free, dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        return _run_trainer(
            SFTTrainer,
            _theirs(job),
            job,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )


CONTENDERS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "arriero": run_arriero,
    "hf-trainer": run_trainer,
    "hf-trainer-own-malloc": run_trainer,
    "trl": run_trl,
    "trl-flat": lambda job: run_trl(job, padding_free=True),
    "plain": run_plain_theirs,
    "plain-ours": run_plain_ours,
}


# ---------------------------------------------------------------- what is measured


def reset_peak() -> None:
    """Forget the peak of resident memory that loading the model left."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("the peak of resident memory could not be reset: it counts loading too", file=sys.stderr)


def peak_mib() -> float:
    """Most resident memory of this process since the reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def measure(job: Job) -> dict[str, Any]:
    """Seconds of each step after the second, tokens of each, last loss, peak memory."""
    import torch

    from arriero.cost.allocator import keep_freed_memory

    if not job.contender.endswith("own-malloc"):
        keep_freed_memory()
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    found = CONTENDERS[job.contender](job)
    peak = peak_mib()
    all_rows = texts(job)
    tokens = [sum(len(t.ids) for t in all_rows[i * job.rows : (i + 1) * job.rows]) for i in range(job.steps)]
    seconds = np.diff(found["times"]).tolist()
    return {
        "seconds": seconds[1:], "tokens": tokens[2:], "losses": found["losses"], "peak_mib": peak,
        "overhead": found.get("overhead"),
    }  # fmt: skip


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    job = Job(**json.loads(sys.argv[1]))
    print("RESULT " + json.dumps(measure(job)))


if __name__ == "__main__":
    main()
