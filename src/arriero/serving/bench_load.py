"""The requests of a benchmark: how long prompts and answers are, and what stands in them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from arriero.errors import ArrieroError

Workload = Literal["chat", "shared-prefix"]

CHAT_PROMPT_MEAN, CHAT_ANSWER_MEAN = 161.31, 337.99
"""Mean tokens of ShareGPT's prompts and answers: Kwon et al., "Efficient Memory Management for Large Language Model
Serving with PagedAttention" (2023), section 6.1."""
SPREAD = 1.0
"""Standard deviation of the logarithm of a length. Chat traces have long tails; the figure is a choice of ours."""

_WORDS = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state", "family",
    "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company", "system", "program",
    "question", "work", "night", "point", "home", "water", "room", "mother", "area", "money", "story", "fact", "month",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One request. ``prompt``: token ids. ``answer``: tokens that are generated, end tokens or not."""

    prompt: list[int]
    answer: int


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths with these means, in tokens; ``spread`` 0 makes all equal.

    A draw is cut to 1 ... ``longest``, so the means that come out are a little below those asked for.
    """

    prompt_mean: float = CHAT_PROMPT_MEAN
    answer_mean: float = CHAT_ANSWER_MEAN
    spread: float = SPREAD

    def __post_init__(self) -> None:
        if self.prompt_mean < 1 or self.answer_mean < 1 or self.spread < 0:
            raise ArrieroError("mean lengths should be 1 token or more, and their spread 0 or more")

    def fitted(self, context: int) -> Lengths:
        """The same shape with means that leave three quarters of a context of ``context`` tokens to the tails."""
        share = min(1.0, context / 4 / (self.prompt_mean + self.answer_mean))
        return Lengths(max(1.0, self.prompt_mean * share), max(1.0, self.answer_mean * share), self.spread)

    def draw(self, rng: random.Random, longest_prompt: int, longest_answer: int) -> tuple[int, int]:
        """One prompt's and one answer's length."""
        prompt = min(self._one(rng, self.prompt_mean), longest_prompt)
        return prompt, min(self._one(rng, self.answer_mean), longest_answer)

    def _one(self, rng: random.Random, mean: float) -> int:
        """A log-normal draw of this mean: E[exp(N(mu, s^2))] = exp(mu + s^2 / 2)."""
        mu = math.log(mean) - self.spread**2 / 2
        return max(1, round(rng.lognormvariate(mu, self.spread)))


def make_jobs(
    workload: Workload, count: int, lengths: Lengths, *, ids: Sequence[int], context: int, prefix: int = 0,
    seed: int = 0,
) -> list[Job]:  # fmt: skip
    """Requests of random tokens, the same for the same seed.

    Args:
        ids: the tokens to draw from. context: most tokens of a prompt with its answer.
        prefix: of "shared-prefix": tokens that all prompts begin with; 0 takes a quarter of the context, up to 512.

    Raises:
        ArrieroError: the context has no room for such requests.
    """
    shared = 0 if workload == "chat" else prefix or min(512, context // 4)
    room = context - shared
    if room < 4:
        raise ArrieroError(
            f"a prefix of {shared:,} tokens leaves {room:,} of the context's {context:,} to the rest of the prompt and "
            "the answer: give a shorter one"
        )
    rng = random.Random(f"arriero bench {workload} {seed}")
    common = rng.choices(ids, k=shared)
    fitted = lengths.fitted(room)
    jobs = []
    for _ in range(count):
        prompt, answer = fitted.draw(rng, room // 2, room // 2)
        jobs.append(Job(common + rng.choices(ids, k=prompt), answer))
    return jobs


def plain_words(ids: Sequence[int]) -> str:
    """Text of about as many tokens, for a tokenizer that nobody has here: most have common words whole."""
    return " ".join(_WORDS[i % len(_WORDS)] for i in ids)
