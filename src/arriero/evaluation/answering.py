"""Greedy answers to the recipe's prompts, so that a reader sees what the figures mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from arriero.evaluation.scores import Sample
from arriero.inference.engine import Engine
from arriero.inference.request import Request, Sampling

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder
    from arriero.tokenization.tokenizer import Tokenizer


def answer_prompts(
    model: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], max_tokens: int, name: str
) -> list[Sample]:
    """One greedy answer for each prompt, asked through the chat template.

    Raises:
        ArrieroError: a prompt and its answer do not fit the model's context.
    """
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    requests = [
        Request(
            tokenizer.chat.render([{"role": "user", "content": prompt}], add_generation_prompt=True).ids,
            sampling,
        )
        for prompt in prompts
    ]
    found = Engine(model, tokenizer).generate(requests)
    return [
        Sample(model=name, text=answer.text, finish=answer.finish_reason, tokens=len(answer.ids))
        for answer in found
    ]
