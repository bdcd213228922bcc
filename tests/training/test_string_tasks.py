"""The original Transformer copies, reverses and sorts strings it has never seen; without positions it can only sort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from arriero.models.seq2seq import Seq2Seq
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.training.loop import train
from arriero.training.objectives.seq2seq import Pair, Seq2SeqObjective
from arriero.training.settings import TrainSettings

PAD, EOS, START, LETTERS, LENGTH = 0, 1, 2, 10, 20
TASKS = {"copy": 3, "reverse": 4, "sort": 5}
FIRST = 6
CHANGES: dict[str, Any] = {"copy": lambda x: x, "reverse": lambda x: x[::-1], "sort": np.sort}


def pairs(count: int, seed: int, tasks: list[str]) -> list[Pair]:
    """Strings of 20 of 10 letters, one task after the other: 10^20 strings, so no two sets share one."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        task = tasks[number % len(tasks)]
        letters = rng.integers(FIRST, FIRST + LETTERS, LENGTH)
        found.append(
            Pair(
                np.array([TASKS[task], *letters, EOS]), np.array([*CHANGES[task](letters), EOS])
            )
        )  # fmt: skip
    return found


def trained(tasks: list[str], context: Any, arithmetic: Any, *, positions: bool, steps: int) -> Seq2Seq:
    model = Seq2Seq(
        Seq2SeqConfig(
            vocab_size=FIRST + LETTERS, d_model=64, encoder_layers=2, decoder_layers=2, encoder_heads=4, decoder_heads=4,
            encoder_d_ff=256, decoder_d_ff=256, context_length=LENGTH + 4, dropout=0.0, pad_id=PAD, eos_id=EOS,
            start_id=START,
        )
    )  # fmt: skip
    model.init_weights(0)
    if not positions:
        for name, table in model.named_buffers():
            if name.endswith("sinusoids"):
                table.zero_()
    settings = TrainSettings(
        duration=f"{steps} steps", batch_size=64, micro_batch_size=64, learning_rate=2e-3, schedule="cosine",
        warmup="100 steps", weight_decay=0.0, beta2=0.98, precision="fp32", min_lr_ratio=0.02, checkpoint_every="60 minutes",
    )  # fmt: skip
    goal = Seq2SeqObjective(pairs(64 * steps, 1, tasks), START)
    train(model, goal, settings, context, arithmetic=arithmetic)
    return model.eval()


@torch.no_grad()
def exact_matches(model: Seq2Seq, task: str, count: int = 500) -> float:
    """Share of unseen strings whose whole answer, written greedily, is right."""
    unseen = pairs(count, 2, [task])
    source = torch.from_numpy(np.stack([pair.source for pair in unseen]))
    wanted = torch.from_numpy(np.stack([pair.target for pair in unseen]))
    memory, written = model.encode(source), torch.full((count, 1), START)
    for _ in range(wanted.shape[1]):
        best = model.logits(model.hidden(written, memory)[:, -1]).argmax(-1, keepdim=True)
        written = torch.cat([written, best], dim=1)
    return float((written[:, 1:] == wanted).all(1).float().mean())


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_copy_reverse_and_sort_unseen_strings(make_context: Any, fp32: Any) -> None:
    model = trained(list(TASKS), make_context(), fp32, positions=True, steps=1500)
    assert {task: share for task in TASKS if (share := exact_matches(model, task)) < 0.99} == {}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_without_positions_sorting_works_and_reversing_fails(make_context: Any, fp32: Any) -> None:
    model = trained(["reverse", "sort"], make_context(), fp32, positions=False, steps=1000)
    assert exact_matches(model, "sort") >= 0.99
    assert exact_matches(model, "reverse") <= 0.05
