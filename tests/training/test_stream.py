from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arriero.errors import ArrieroError, Interrupted
from arriero.models.recurrent import Recurrent
from arriero.models.recurrent_config import RecurrentConfig
from arriero.training.loop import train
from arriero.training.objectives.base import UNSCORED
from arriero.training.objectives.stream import StreamObjective
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings
from arriero.training.traced import TracedFlops, Work

STREAM = np.random.default_rng(0).integers(0, 29, 1000)
STARTS = np.array([0, 37, 38, 160, 161, 400, 644, 900])
SETTINGS = TrainSettings(
    duration="24 steps", batch_size=4, micro_batch_size=3, learning_rate=1e-2, eval_every=9, log_every=4,
    checkpoint_every="3 steps", threads=1,
)  # fmt: skip


class Windows:
    """Windows of a made-up stream with documents that begin at STARTS."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return (len(STREAM) - 1) // self.length

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        places = np.asarray(indices)[:, None] * self.length + np.arange(self.length + 1)
        documents = np.searchsorted(STARTS, places, side="right")
        return STREAM[places], documents - documents[:, :1]


def network(family: str = "lstm", **changes: Any) -> Recurrent:
    values = {"family": family, "vocab_size": 29, "d_model": 11, "n_layers": 2, "d_embedding": 6, **changes}
    model = Recurrent(RecurrentConfig.model_validate(values))
    model.init_weights(1)
    return model


def run(model: Recurrent, objective: Any, context: Any, **options: Any) -> Any:
    settings = options.pop("settings", SETTINGS)
    return train(model, objective, settings, context, arithmetic=Arithmetic("fp32", 1), **options)


def test_every_window_is_read_once_an_epoch_each_stream_in_its_order() -> None:
    objective = StreamObjective(Windows(20), 20, True, streams=4)
    assert len(objective) == 4 * (49 // 4)
    read: dict[int, list[int]] = {n: [] for n in range(4)}
    for i in range(len(objective)):
        batch = objective.batch([i])
        read[int(batch.streams[0])] += batch.ids[0].tolist()
        assert bool(batch.fresh[0]) == (i < 4)
    for stream, ids in read.items():
        assert ids == STREAM[stream * 240 : (stream + 1) * 240].tolist()
    assert objective.parts(range(10), 3) == [[0, 1, 2], [3], [4, 5, 6], [7], [8, 9]]


@pytest.mark.parametrize("family", ["lstm", "rnn"])
@pytest.mark.parametrize("document_mask", [True, False])
@pytest.mark.parametrize("micro", [4, 3])
def test_losses_are_those_of_the_whole_documents(family: str, document_mask: bool, micro: int) -> None:
    """The state goes through the windows as if there were none, and starts anew with a document."""
    model, objective = network(family).eval(), StreamObjective(Windows(20), 20, document_mask, streams=4)
    found = 0.0
    with torch.no_grad():
        for part in objective.parts(range(len(objective)), micro):
            found += float(objective.loss_sum(model, objective.batch(part))[0])
    wanted, scored = 0.0, 0
    for stream in range(4):
        start, stop = stream * 12 * 20, (stream + 1) * 12 * 20
        inside = [s for s in STARTS if start < s < stop] if document_mask else []
        for a, b in zip([start, *inside], [*inside, stop + 1], strict=True):
            text = STREAM[a:b].tolist()
            if len(text) > 1:
                logs = model.token_logprobs([text])[0]
                targets = np.arange(a + 1, a + len(text))
                kept = ~np.isin(targets, STARTS)
                wanted -= logs[kept].sum()
                scored += int(kept.sum())
    assert scored == sum(objective.batch([i]).scored for i in range(len(objective)))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_gradients_stop_at_the_window_and_values_go_on() -> None:
    """A step's gradient is that of its window from the carried state taken as a constant."""
    model, objective = network(), StreamObjective(Windows(10), 10, False, streams=3)
    first, second = (objective.batch(range(3 * step, 3 * step + 3)) for step in (0, 1))
    objective.loss_sum(model, first)[0].backward()
    model.zero_grad()
    objective.loss_sum(model, second)[0].backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    with torch.no_grad():
        _, state = model.hidden_with_state(first.ids)
    hidden, _ = model.hidden_with_state(second.ids, state)
    targets = second.targets.masked_fill(second.targets == UNSCORED, -100)
    torch.nn.functional.cross_entropy(model.logits(hidden).flatten(0, 1), targets, reduction="sum").backward()
    for ours, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(ours, p.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["lstm", "rnn"])
def test_a_stopped_run_goes_on_bit_for_bit(
    family: str, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    """The carried state is a part of the checkpoint; with dropout, so that the generators count too."""

    def objectives() -> tuple[StreamObjective, StreamObjective]:
        return (
            StreamObjective(Windows(20), 20, True, streams=4),
            StreamObjective(Windows(20), 20, True, streams=3, limit=7),
        )

    def once(context: Any) -> Recurrent:
        model = network(family, dropout=0.2)
        objective, heldout = objectives()
        run(model, objective, context, heldout=heldout)
        return model

    whole = once(make_context())
    root = tmp_path / "stopped"
    for stop in (5, 14, 20):
        with pytest.raises(Interrupted):
            once(make_context(root=root, stop_at=stop))
    resumed = once(make_context(root=root))
    for (name, a), b in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_killed_run_goes_back_to_the_state_of_its_checkpoint(
    make_context: Callable[..., Any], tmp_path: Path
) -> None:
    class KilledError(Exception):
        """Stands for kill -9."""

    whole, killed = network(), network()
    run(whole, StreamObjective(Windows(20), 20, True, streams=4), make_context())
    context = make_context(root=tmp_path / "killed")
    report = context.progress

    def kill(done: float, *rest: Any, **figures: Any) -> None:
        report(done, *rest, **figures)
        if done == 11:
            raise KilledError

    context.progress = kill
    with pytest.raises(KilledError):
        run(killed, StreamObjective(Windows(20), 20, True, streams=4), context)
    again = network()
    run(again, StreamObjective(Windows(20), 20, True, streams=4), make_context(root=tmp_path / "killed"))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_evaluations_start_from_nothing_each_time(make_context: Callable[..., Any]) -> None:
    model, heldout = network(), StreamObjective(Windows(20), 20, True, streams=3, limit=7)
    settings = TrainSettings(
        duration="2 steps", batch_size=4, learning_rate=1e-9, eval_every=1, weight_decay=0.0
    )
    result = run(
        model, StreamObjective(Windows(20), 20, True, streams=4), make_context(), heldout=heldout,
        settings=settings,
    )  # fmt: skip
    losses = [e["loss"] for e in result.totals.evaluations]
    assert len(losses) == 3 and losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    assert len(heldout) == 9, "three windows of each stream"


def test_planning_leaves_the_real_streams_alone() -> None:
    objective, model = StreamObjective(Windows(20), 20, True, streams=4), network()
    flops = TracedFlops(Work(model.config, objective, TrainSettings(), "fp32"))
    assert flops.training(objective.batch(range(4))) > 0
    assert objective.carried() == {}


def test_too_few_windows_for_the_streams_is_one_line() -> None:
    with pytest.raises(ArrieroError, match=r"49 windows.*too few for 50 streams"):
        StreamObjective(Windows(20), 20, True, streams=50)
