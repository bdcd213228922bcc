"""Tasks of the stage ``evaluate`` on a few items, for a model that is still being trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from arriero.errors import ArrieroError
from arriero.evaluation.answer_loss import score_conversations
from arriero.evaluation.answers import Answer, render_answer, render_pair
from arriero.evaluation.forecast import row_flops
from arriero.evaluation.heldout import heldout_conversations, heldout_preferences
from arriero.evaluation.items import NO_LIMIT
from arriero.evaluation.preference import score_pairs
from arriero.evaluation.settings import EvaluateSettings
from arriero.models.generation import generate
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training.tasks import TaskResult, TaskSettings


class InRunTasks:
    """The same items, scored again and again.

    Args:
        prompts: text and ids of each prompt.
    """

    def __init__(
        self,
        conversations: Sequence[Answer],
        pairs: Sequence[tuple[Answer, Answer]],
        prompts: Sequence[tuple[str, list[int]]],
        sample_tokens: int,
        tokenizer: Tokenizer,
    ) -> None:
        self._conversations, self._pairs, self._prompts = conversations, pairs, prompts
        self._sample_tokens = sample_tokens
        self._tokenizer = tokenizer
        self._flops: Callable[[int], float] | None = None

    def score(self, model: Any) -> TaskResult:
        """Answer loss, preference accuracy and samples of the model in its present state; its mode is left as it is."""
        was_training = model.training
        model.eval()
        try:
            samples = [self._sample(model, text, ids) for text, ids in self._prompts]
            return TaskResult(self._figures(model), samples, self._arithmetic(model))
        finally:
            model.train(was_training)

    def _figures(self, model: Any) -> dict[str, float]:
        figures = {}
        if self._conversations:
            nats, tokens = score_conversations(model, self._conversations)
            figures["task_answer_loss"] = float(nats.sum() / tokens.sum())
        if self._pairs:
            figures["task_preference_accuracy"] = float(score_pairs(model, self._pairs).by_sum.mean())
        return figures

    def _sample(self, model: Any, text: str, ids: list[int]) -> dict[str, str]:
        ends = {self._tokenizer.eos_id, self._tokenizer.end_of_turn_id}
        found = generate(model, ids, self._sample_tokens, temperature=0.0, end_ids=ends)
        return {"prompt": text, "text": self._tokenizer.decode(found)}

    def _arithmetic(self, model: Any) -> float:
        if self._flops is None:
            self._flops = row_flops(model.config, "float32")
        lengths = [len(answer.ids) for answer in self._conversations]
        lengths += [len(side.ids) for pair in self._pairs for side in pair]
        lengths += [len(ids) + self._sample_tokens for _, ids in self._prompts]
        return sum(self._flops(length) for length in lengths)


def in_run_tasks(
    settings: TaskSettings, tokenizer: Tokenizer, context_length: int | None, *, chat: bool
) -> InRunTasks:
    """See :func:`arriero.training.tasks.in_run_tasks`.

    Raises:
        ArrieroError: a file cannot be read, nothing in it is held out and fits, or a prompt is too long.
    """
    longest = context_length or NO_LIMIT
    chosen = EvaluateSettings(
        conversations=settings.eval_conversations, preferences=settings.eval_preferences, max_items=settings.eval_items,
        **{name: getattr(settings, name) for name in ("holdout_share", "holdout_seed", "system_prompt") if hasattr(settings, name)},
    )  # fmt: skip
    rows = [render_answer(tokenizer.chat, row, longest) for row in heldout_conversations(chosen)]
    pairs = [render_pair(tokenizer.chat, pair, longest) for pair in heldout_preferences(chosen)]
    found = [row for row in rows if row is not None], [pair for pair in pairs if pair is not None]
    for items, files in zip(found, (settings.eval_conversations, settings.eval_preferences), strict=True):
        if files and not items:
            raise ArrieroError(
                f"nothing of {files[0]} is held out and fits {longest} tokens; give more, or a longer context"
            )
    prompts = [(text, _prompt_ids(text, tokenizer, chat)) for text in settings.eval_prompts]
    for text, ids in prompts:
        if len(ids) + settings.eval_sample_tokens > longest:
            raise ArrieroError(
                f"eval_prompts: '{text[:40]}' and {settings.eval_sample_tokens} tokens of sample are longer than the "
                f"model's context of {longest} tokens"
            )
    return InRunTasks(*found, prompts, settings.eval_sample_tokens, tokenizer)


def _prompt_ids(text: str, tokenizer: Tokenizer, chat: bool) -> list[int]:
    if chat:
        return list(
            tokenizer.chat.render([{"role": "user", "content": text}], add_generation_prompt=True).ids
        )
    return list(tokenizer.encode(text, bos=True))
