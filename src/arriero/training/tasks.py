"""Tasks and samples in the course of a run: what the held-out loss does not say."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import Field

from arriero.artifacts import InputPath
from arriero.stage import IN_RUN_TASKS, StageSettings


class TaskSettings(StageSettings):
    """What a run scores at its held-out evaluations, besides the held-out loss."""

    eval_prompts: list[str] = Field(
        default=[], description="texts that the model goes on with (chat models: answers) at each evaluation"
    )
    eval_sample_tokens: int = Field(default=32, ge=1, description="most tokens of such a sample")
    eval_conversations: list[InputPath] = Field(
        default=[],
        description="JSONL files whose held-out conversations give an answer loss at each evaluation",
    )
    eval_preferences: list[InputPath] = Field(
        default=[],
        description="JSONL files whose held-out pairs give a preference accuracy at each evaluation",
    )
    eval_items: int = Field(
        default=32, ge=1, description="most conversations, and most pairs, scored at each evaluation"
    )

    @property
    def wants_tasks(self) -> bool:
        return bool(self.eval_prompts or self.eval_conversations or self.eval_preferences)


@dataclass(frozen=True)
class TaskResult:
    """Figures by name, samples as {"prompt", "text"}, and the arithmetic that they took."""

    figures: dict[str, float]
    samples: list[dict[str, str]] = field(default_factory=list)
    flops: float = 0.0


class Tasks(Protocol):
    """Scores a model as it is now."""

    def score(self, model: Any) -> TaskResult: ...


def in_run_tasks(
    settings: TaskSettings, tokenizer: Any, context_length: int | None, *, chat: bool
) -> Tasks | None:
    """What the settings ask for, by the code of the stage ``evaluate``; None where they ask for nothing.

    Args:
        context_length: most tokens that the model takes; None: any number.
        chat: prompts are questions, asked through the chat template; else texts to go on with.

    Raises:
        ArrieroError: a file cannot be read, or nothing in it is held out and fits.
    """
    if not settings.wants_tasks:
        return None
    make: Callable[..., Tasks] = importlib.import_module(IN_RUN_TASKS).in_run_tasks
    return make(settings, tokenizer, context_length, chat=chat)
