"""Distillation: the formula, its limits, and gradients made block by block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from arriero.errors import ArrieroError
from arriero.training.loop import train
from arriero.training.objectives import head
from arriero.training.objectives.causal import CausalObjective
from arriero.training.objectives.distil import DistilObjective, attach_teacher
from arriero.training.plan import run_load
from arriero.training.settings import TrainSettings
from arriero.training.traced import Work, step_figures

from .conftest import CONFIG, MadeUpWindows

WINDOWS = MadeUpWindows(40, 24)


def distil(**options: Any) -> DistilObjective:
    return DistilObjective(WINDOWS, 24, True, **options)


def taught(make_model: Any, width: int = 48) -> Any:
    student = make_model(1)
    attach_teacher(student, make_model(2, d_model=width, n_layers=3))
    return student


def direct(student: Any, batch: Any, t: float, alpha: float, reverse: bool) -> torch.Tensor:
    """The formula written out on the full logits."""
    teacher = student.distillation_teacher
    logits = student(batch.ids, segments=batch.segments).flatten(0, 1)
    with torch.no_grad():
        wanted = teacher(batch.ids, segments=batch.segments).flatten(0, 1)
    total = torch.zeros(())
    for q, p, target in zip(logits, wanted, batch.targets, strict=True):
        if target < 0:
            continue
        soft_q, soft_p = torch.softmax(q / t, 0), torch.softmax(p / t, 0)
        a, b = (soft_q, soft_p) if reverse else (soft_p, soft_q)
        divergence = (a * (a.log() - b.log())).sum()
        total = total + alpha * -torch.log_softmax(q, 0)[target] + (1 - alpha) * t * t * divergence
    return total


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
@pytest.mark.parametrize(("t", "alpha"), [(1.0, 0.0), (3.0, 0.3), (0.5, 0.9)])
def test_loss_and_gradient_are_the_formulas(
    make_model: Any, monkeypatch: pytest.MonkeyPatch, t: float, alpha: float, divergence: Any
) -> None:
    monkeypatch.setattr(head, "block_rows", lambda vocab_size: 7)  # several blocks, the last one smaller
    student = taught(make_model)
    objective = distil(temperature=t, alpha=alpha, divergence=divergence)
    batch = objective.batch([3, 8])
    loss, figures = objective.loss_sum(student, batch)
    loss.backward()
    found = {name: p.grad.clone() for name, p in student.named_parameters()}
    student.zero_grad()
    wanted = direct(student, batch, t, alpha, divergence == "reverse")
    wanted.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-4)
    for name, p in student.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        again, same = objective.loss_sum(student, batch)
    torch.testing.assert_close(again, loss.detach(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(same["divergence"], figures["divergence"], rtol=1e-4, atol=1e-4)
    mixed = alpha * figures["hard_loss"] + (1 - alpha) * t * t * figures["divergence"]
    torch.testing.assert_close(mixed, loss.detach(), rtol=1e-5, atol=1e-4)


def test_without_the_teachers_share_it_is_the_plain_cross_entropy(make_model: Any) -> None:
    student = taught(make_model)
    batch = distil().batch([0, 5])
    plain, _ = CausalObjective(WINDOWS, 24, True).loss_sum(student, batch)
    found, _ = distil(alpha=1.0).loss_sum(student, batch)
    torch.testing.assert_close(found, plain)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(make_model: Any) -> None:
    student = make_model(4)
    attach_teacher(student, make_model(4))
    for divergence in ("forward", "reverse"):
        loss, _ = distil(alpha=0.0, temperature=4.0, divergence=divergence).loss_sum(
            student, distil().batch([1])
        )
        loss.backward()
        assert abs(float(loss.detach())) < 1e-4
        assert max(float(p.grad.abs().max()) for p in student.parameters()) < 1e-4


def test_a_high_temperature_is_half_the_squared_difference_of_centred_logits(make_model: Any) -> None:
    """Hinton et al., equation 4: T^2 KL -> sum (z - v)^2 / (2 V) with logits of mean 0."""
    draw = torch.Generator().manual_seed(0)
    z, v = (torch.randn(5, 64, generator=draw) for _ in range(2))
    z, v = z - z.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    _, _, soft = distil(temperature=300.0).token_losses(z.double(), v.double(), torch.zeros(5).long())
    limit = ((z - v) ** 2).sum(1) / (2 * 64)
    torch.testing.assert_close(300.0**2 * soft, limit, rtol=0.1, atol=0.02)


def test_the_teacher_is_neither_trained_nor_saved(make_model: Any, make_context: Any, fp32: Any) -> None:
    student = taught(make_model)
    teacher = student.distillation_teacher
    before = [p.clone() for p in teacher.parameters()]
    settings = TrainSettings(duration="12 steps", batch_size=4, learning_rate=3e-3, precision="fp32")
    result = train(student, distil(alpha=0.0), settings, make_context(), arithmetic=fp32)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert not [name for name, _ in student.named_parameters() if "teacher" in name]
    curve = result.totals.curve_means()
    assert curve[-1] < curve[0]


def test_the_plan_sees_the_teachers_forward(make_model: Any) -> None:
    settings = TrainSettings(duration="4 steps", batch_size=4, precision="fp32")

    def beside(student: Any) -> None:
        attach_teacher(student, make_model(2, d_model=256, n_heads=4))

    objective = distil()
    shape = run_load(settings, objective, None, seed=0).typical[0][0]
    plain = step_figures(Work(CONFIG, CausalObjective(WINDOWS, 24, True), settings, "fp32"), [shape], None)
    both = step_figures(Work(CONFIG, objective, settings, "fp32", beside), [shape], None)
    weights = sum(p.numel() for p in make_model(2, d_model=256, n_heads=4).parameters())
    assert both.state_bytes >= plain.state_bytes + 4 * weights
    assert both.flops > plain.flops + 2 * 0.9 * (weights - 64 * 256) * shape.rows * shape.length


def test_what_does_not_fit_is_refused(make_model: Any) -> None:
    with pytest.raises(ArrieroError, match="one vocabulary"):
        attach_teacher(make_model(), make_model(vocab_size=65))
    with pytest.raises(ArrieroError, match="no teacher"):
        distil().loss_sum(make_model(), distil().batch([0]))


def test_cross_entropy_and_divergence_differ_by_the_teachers_entropy() -> None:
    draw = torch.Generator().manual_seed(1)
    q, p = (torch.randn(3, 64, generator=draw) for _ in range(2))
    _, _, soft = distil(temperature=1.0).token_losses(q, p, torch.tensor([0, 1, -100]))
    cross = F.cross_entropy(q, torch.softmax(p, -1), reduction="none")
    entropy = -(torch.softmax(p, -1) * torch.log_softmax(p, -1)).sum(-1)
    torch.testing.assert_close(soft[:2], (cross - entropy)[:2])
    assert soft[2] == 0
