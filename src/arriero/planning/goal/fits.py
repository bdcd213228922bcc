"""`--goal fits`: what one card can train. With a model: each method on it; without: the largest model by method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from arriero.cost.hardware.table import find
from arriero.errors import ArrieroError
from arriero.models.preset import get_preset
from arriero.planning.goal.answer import GoalAnswer, answer
from arriero.planning.goal.question import GoalQuestion

LADDER = (
    "smollm2-135m", "pythia-410m", "llama-3.2-1b", "llama-3.2-3b", "mistral-7b", "llama-3-8b", "llama-2-13b", "gpt-neox-20b",
    "llama-33b", "llama-3-70b",
)  # fmt: skip
"""Sizes to try where a question names none."""
_LEAST_BYTES = {"full": 16.0, "lora": 2.0, "qlora": 0.5}
"""Bytes a parameter below which a method never gets: fp32 weights, gradients and AdamW's two moments; bf16 weights; int4
weights."""


@dataclass(frozen=True)
class MethodFit:
    """The outcome for one method: the answer for ``model``, whose best plan fits; None where none was found."""

    method: str
    model: str
    answer: GoalAnswer | None

    @property
    def fits(self) -> bool:
        return self.answer is not None and self.answer.best is not None


@dataclass(frozen=True)
class FitsAnswer:
    """What the card can train.

    Attributes:
        device: its name. by_method: in the order in which less and less is trained. tried: the models, smallest first.
    """

    question: GoalQuestion
    device: str
    by_method: tuple[MethodFit, ...]
    tried: tuple[str, ...]


def answer_fits(question: GoalQuestion, say: Callable[[str], None]) -> FitsAnswer:
    """Each method on the question's model; without a model, the largest of its ``models`` that each method can train.

    Raises:
        ArrieroError: the question makes no sense, or a model or device is unknown.
    """
    question.check()
    hardware = find(question.hardware[0])
    if hardware.memory_bytes is None:
        raise ArrieroError(f"nobody has told the memory of {hardware.name}, so nobody can tell what fits")
    room = hardware.memory_bytes * max(question.device_counts)
    if question.name:
        by_method = [_one(question, question.name, method, say) for method in question.methods]
        return FitsAnswer(question, hardware.name, tuple(by_method), (question.name,))
    models = sorted(question.models or LADDER, key=lambda name: get_preset(name).parameters)
    found = [_largest(question, models, method, room, say) for method in question.methods]
    return FitsAnswer(question, hardware.name, tuple(found), tuple(models))


def _largest(
    question: GoalQuestion, models: Sequence[str], method: str, room: float, say: Callable[[str], None]
) -> MethodFit:
    """From the largest down; those whose weights and states alone are too much are not traced."""
    for name in reversed(models):
        preset = get_preset(name)
        if preset.parameters * _LEAST_BYTES[method] > room:
            continue
        found = _one(replace(question, config=preset.config), name, method, say)
        if found.fits:
            return found
    return MethodFit(method, "", None)


def _one(question: GoalQuestion, name: str, method: str, say: Callable[[str], None]) -> MethodFit:
    return MethodFit(method, name, answer(replace(question, name=name, methods=(method,)), say))
