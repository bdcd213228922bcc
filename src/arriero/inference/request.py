"""What is asked of the engine and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from arriero.errors import ArrieroError

FinishReason = Literal["stop", "length", "abort"]
"""Why an answer ended: an end token or a stop string; its token limit; the request was aborted."""


class RequestError(ArrieroError):
    """A request that the engine can never serve: it is refused before any work starts.

    ``param`` names the part at fault, ``code`` is a short stable word for programs.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class QueueFullError(ArrieroError):
    """The waiting queue is at its bound: try again later."""


class Sampling(BaseModel):
    """How the next token is chosen.

    The steps run in this order: penalties, temperature, min-p, top-k, top-p, then one draw. The defaults are
    the model's own distribution; nothing is read from ``generation_config.json``.
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
    seed: int | None = Field(
        default=None, ge=-(2**63), lt=2**64, description="same seed, same answer; none draws a fresh one"
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="most tokens of the answer; none fills the context"
    )
    stop: tuple[str, ...] = Field(default=(), description="the answer ends before the first of these texts")
    logprobs: int | None = Field(
        default=None, ge=0, le=100, description="report this many most probable tokens at each step"
    )
    ignore_end: bool = Field(default=False, description="go on past end tokens (for measuring speed)")

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not text for text in value):
            raise ValueError("a stop string must not be empty")
        return value


@dataclass(frozen=True)
class Request:
    """A prompt, as token ids, and how to go on from it."""

    prompt: list[int]
    sampling: Sampling = Sampling()  # noqa: RUF009 - the settings are frozen


@dataclass(frozen=True)
class TokenLogprob:
    """A token and its natural-log probability under the model's own distribution (before penalties and
    temperature)."""

    token_id: int
    logprob: float


@dataclass(frozen=True)
class Event:
    """One step of one answer.

    ``text`` holds only whole characters and nothing that could still become part of a stop string, so it may
    be empty, and the last event may carry more than its token. ``token_id`` is None for an abort.
    """

    request_id: int
    token_id: int | None
    text: str
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Completion:
    """A whole answer. ``ids`` include the end token, when one ended it; ``text`` does not."""

    request_id: int
    ids: list[int]
    text: str
    logprobs: list[float]
    top: list[tuple[TokenLogprob, ...]]
    finish_reason: FinishReason
