"""What is asked of the engine and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from typing import Self

    from arriero.inference.grammar.spec import GrammarSpec

FinishReason = Literal["stop", "length", "abort", "error"]
"""Why an answer ended: an end token, a stop token or a stop string; its token limit; the request was aborted; its
logits were no numbers, or its grammar left no token (``Event.error`` says which)."""

Speculative = Literal["auto", "off", "prompt", "draft"]
"""Who guesses tokens ahead: whatever pays, nobody, a lookup in prompt and answer, the engine's draft model."""

Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
TokenId = Annotated[int, Field(ge=0)]


class RequestError(ArrieroError):
    """A request that the engine can never serve: it is refused before any work starts.

    ``param`` names the part at fault, ``code`` is a short stable word for programs.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


CHOOSING = (
    "temperature", "top_k", "top_p", "min_p",
    "repetition_penalty", "presence_penalty", "frequency_penalty", "seed",
)  # fmt: skip
"""The settings that choose a token, in the order in which :meth:`Sampling.describe` tells them."""

MAX_ANSWERS = 128
"""Most answers of one request."""


class QueueFullError(ArrieroError):
    """The waiting queue is at its bound: try again later."""


class Sampling(BaseModel):
    """How the next token is chosen.

    The steps run in this order: penalties, logit bias, what may not come yet (``min_tokens``) or not at all (a
    grammar), temperature, min-p, top-k, top-p, then one draw. The defaults are the model's own distribution;
    nothing is read from ``generation_config.json``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=1.0, ge=0, le=100, description="0 takes the most probable token")
    top_k: int = Field(default=0, ge=0, description="keep the k most probable tokens; 0 keeps all")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="keep the fewest tokens whose probabilities reach p"
    )
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="drop tokens below this share of the best one's"
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, le=100, description="divide the logits of tokens seen in prompt or answer (CTRL)"
    )
    presence_penalty: float = Field(
        default=0.0, ge=-2, le=2, description="subtracted once for a token in the answer"
    )
    frequency_penalty: float = Field(
        default=0.0, ge=-2, le=2, description="subtracted for each time a token is in the answer"
    )
    logit_bias: dict[TokenId, Bias] = Field(
        default_factory=dict,
        description="added to the logits of these token ids; -100 all but forbids, 100 all but forces",
    )
    seed: int | None = Field(
        default=None, ge=-(2**63), lt=2**64, description="same seed, same answer; none draws a fresh one"
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="most tokens of the answer; none fills the context"
    )
    min_tokens: int = Field(
        default=0, ge=0, description="nothing ends the answer before it has this many tokens"
    )
    stop: tuple[str, ...] = Field(default=(), description="the answer ends before the first of these texts")
    stop_token_ids: tuple[TokenId, ...] = Field(
        default=(), description="the answer ends with the first of these tokens, which is not shown"
    )
    logprobs: int | None = Field(
        default=None, ge=0, le=100, description="report this many most probable tokens at each step"
    )
    prompt_logprobs: int | None = Field(
        default=None, ge=0, le=100, description="report the prompt's log-probs and so many best beside each"
    )
    ignore_end: bool = Field(default=False, description="go on past end tokens (for measuring speed)")

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not text for text in value):
            raise ValueError("a stop string must not be empty")
        return value

    @model_validator(mode="after")
    def _fits_its_limit(self) -> Self:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}")
        return self

    def describe(self) -> str:
        """What applies when a token is chosen, on one line for a person; what was set is marked.

        Whatever is not set is the model's own distribution, for a chat, the server, evaluations and rollouts alike.
        """
        told = []
        for name in CHOOSING:
            value = getattr(self, name)
            shown = (
                "drawn for each request" if value is None else f"{value:g}" if name != "seed" else str(value)
            )
            told.append(f"{name} {shown}{' (set)' if name in self.model_fields_set else ''}")
        if self.logit_bias:
            told.append(f"logit_bias on {len(self.logit_bias)} tokens (set)")
        return f"{', '.join(told)}; generation_config.json is not read"


@dataclass(frozen=True)
class Request:
    """A prompt, as token ids, and how to go on from it.

    Attributes:
        n: how many answers; each has its own stream of draws and its own ``Event.index``.
        best_of: draw so many answers and give the ``n`` of highest mean log-probability a token; None draws ``n``.
        adapter: name of a loaded LoRA adapter; None for the plain model.
        grammar: what every answer must be; None for free text.
        speculative: who may guess tokens ahead. It never changes what answers are likely, nor a seeded answer
            (see ``speculative/verify.py``).

    Raises:
        RequestError: ``n`` or ``best_of`` make no sense.
    """

    prompt: list[int]
    sampling: Sampling = Sampling()  # noqa: RUF009 - the settings are frozen
    n: int = 1
    best_of: int | None = None
    adapter: str | None = None
    grammar: GrammarSpec | None = None
    speculative: Speculative = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_ANSWERS:
            raise RequestError(f"n is {self.n}, it must be from 1 to {MAX_ANSWERS}", param="n")
        if self.best_of is not None and not self.n <= self.best_of <= MAX_ANSWERS:
            raise RequestError(
                f"best_of is {self.best_of}, it must be from n ({self.n}) to {MAX_ANSWERS}", param="best_of"
            )

    @property
    def answers(self) -> int:
        """How many sequences the engine runs for it."""
        return self.n if self.best_of is None else self.best_of


@dataclass(frozen=True)
class TokenLogprob:
    """A token and its natural-log probability under the model's own distribution (before penalties and
    temperature)."""

    token_id: int
    logprob: float


@dataclass(frozen=True)
class PromptToken:
    """A token of the prompt, and how probable the model found it; the first one has no log-probability."""

    token_id: int
    logprob: float | None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Event:
    """One step of one answer.

    ``text`` holds only whole characters and nothing that could still become part of a stop string, so it may
    be empty, and the last event may carry more than its token. ``token_id`` is None for an abort and an error.
    Every answer of a request ends with an event of its own, which has a ``finish_reason``.

    Attributes:
        index: which of the request's answers.
        cached_tokens: prompt tokens that were not computed again (on an answer's first event, else 0).
        prompt_logprobs: one for each token of the prompt, when asked for (on the first event of answer 0).
        error: what went wrong, in one line, when ``finish_reason`` is "error".
    """

    request_id: int
    token_id: int | None
    text: str
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    index: int = 0
    cached_tokens: int = 0
    prompt_logprobs: tuple[PromptToken, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Completion:
    """A whole answer. ``ids`` include the end token, when one ended it; ``text`` does not."""

    request_id: int
    ids: list[int]
    text: str
    logprobs: list[float]
    top: list[tuple[TokenLogprob, ...]]
    finish_reason: FinishReason
    index: int = 0
    cached_tokens: int = 0
    prompt_logprobs: tuple[PromptToken, ...] = ()
