"""Rendered held-out conversations and pairs, and what a model makes of their answers' tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.data.conversations import Message, Preference
from arriero.evaluation.progress import Progress, silent
from arriero.models.protocol import LanguageModel
from arriero.tokenization.chat import ChatTemplate

Floats = NDArray[np.float64]
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Answer:
    """A rendered conversation; ``supervised[i]``: token i belongs to an answer."""

    ids: list[int]
    supervised: NDArray[np.bool_]

    @property
    def n_supervised(self) -> int:
        """Answer tokens that have something before them."""
        return int(self.supervised[1:].sum())


def render_answer(chat: ChatTemplate, messages: Sequence[Message], context: int) -> Answer | None:
    """The conversation as the model was trained on it, or None when it has no answer or is longer than the context.

    It is left out, not cut, so that models of different contexts are never judged on different halves.
    """
    rendered = chat.render(messages)
    answer = Answer(rendered.ids, np.asarray(rendered.mask, bool))
    return answer if answer.n_supervised and len(answer.ids) <= context else None


def render_pair(chat: ChatTemplate, pair: Preference, context: int) -> tuple[Answer, Answer] | None:
    """(chosen, rejected) as whole conversations of which only the last answer counts; None when one is too long."""
    start = len(chat.render(pair.prompt, add_generation_prompt=True).ids)
    sides = []
    for text in (pair.chosen, pair.rejected):
        answer = render_answer(chat, [*pair.prompt, {"role": "assistant", "content": text}], context)
        if answer is None:
            return None
        # earlier answers in the prompt are the same on both sides: leave them out
        answer.supervised[:start] = False
        sides.append(answer)
    return sides[0], sides[1]


def score_answers(
    model: LanguageModel, answers: Sequence[Answer], progress: Progress = silent
) -> tuple[Floats, Floats]:
    """(summed natural-log probability, number) of the answer tokens of each conversation [n]."""
    sums = np.zeros(len(answers))
    order = sorted(range(len(answers)), key=lambda i: -len(answers[i].ids))
    for start in range(0, len(order), ROWS_AT_ONCE):
        batch = order[start : start + ROWS_AT_ONCE]
        for i, values in zip(batch, model.token_logprobs([answers[i].ids for i in batch]), strict=True):
            sums[i] = values[answers[i].supervised[1:]].sum()
        progress([len(answers[i].ids) for i in batch])
    return sums, np.asarray([answer.n_supervised for answer in answers], np.float64)
