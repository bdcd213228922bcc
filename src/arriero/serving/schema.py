"""The request of `/v1/chat/completions`: what is read, what is harmless to ignore, and what is refused.

A field of OpenAI's that would change the answer and that Arriero does not have is refused by name: an answer
that silently leaves out what was asked for is worse than none.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from arriero.errors import did_you_mean
from arriero.inference.request import Sampling
from arriero.serving.errors import ApiError, bad_request

HARMLESS = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "user",
    }
)
"""OpenAI's fields that do not change what the answer says: accepted and not used."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""OpenAI's fields that Arriero does not have, and the values of them (beside null) that ask for nothing."""


EMPTY_OF_ANSWERS = frozenset({"annotations", "audio", "function_call", "refusal", "tool_calls"})
"""Fields of OpenAI's answers that a message may carry when they are empty."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Model):
    """A part of a message's content; text is the only kind."""

    type: Literal["text"]
    text: str


class Message(_Model):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any) -> Any:
        """Clients send an answer back as they got it, with its empty fields."""
        if not isinstance(value, dict):
            return value
        return {k: v for k, v in value.items() if not (k in EMPTY_OF_ANSWERS and v in (None, [], {}))}

    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(_Model):
    """How to stream."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(_Model):
    """The body of a chat completion: OpenAI's fields, and top_k, min_p and repetition_penalty as vLLM names them."""

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    def sampling(self, max_tokens: int | None) -> Sampling:
        """The engine's settings. ``max_tokens`` is used where the request names no limit."""
        given = {
            name: value
            for name in (
                "temperature",
                "top_p",
                "top_k",
                "min_p",
                "presence_penalty",
                "frequency_penalty",
                "repetition_penalty",
                "seed",
            )
            if (value := getattr(self, name)) is not None
        }
        return Sampling(
            **given,
            max_tokens=self.max_completion_tokens or self.max_tokens or max_tokens,
            stop=tuple([self.stop] if isinstance(self.stop, str) else self.stop or ()),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )

    def conversation(self) -> list[dict[str, str]]:
        """The messages as the chat template takes them. OpenAI's "developer" is its newer word for "system"."""
        return [
            {"role": "system" if m.role == "developer" else m.role, "content": m.text()}
            for m in self.messages
        ]

    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that holds the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read the body of a chat completion.

    Raises:
        ApiError: 400, naming the field and what would be right.
    """
    fields = _read_object(body)
    kept = {name: value for name, value in fields.items() if not _ignored(name, value)}
    try:
        request = ChatRequest.model_validate(kept)
    except ValidationError as error:
        raise _first_problem(error) from None
    _check_together(request)
    return request


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise bad_request(
            f"the body is not UTF-8: byte {error.start} cannot be read", code="invalid_utf8"
        ) from None
    except RecursionError:
        raise bad_request("the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise bad_request(f"the body is not JSON: {error}", code="invalid_json") from None
    if b"\\u" in body and not _is_unicode(fields):
        raise bad_request(
            "the body holds half of a surrogate pair, which is no character", code="invalid_utf8"
        )
    if not isinstance(fields, dict):
        raise bad_request("the body should be a JSON object with 'model' and 'messages'", code="invalid_json")
    return fields


def _is_unicode(value: Any) -> bool:
    """Whether every text in a JSON value can be written as UTF-8; an escape can name half a character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _ignored(name: str, value: Any) -> bool:
    """Whether to leave a field out; refuses fields that would have an effect Arriero does not have."""
    if name in ChatRequest.model_fields:
        return False
    if name in HARMLESS or (name in NEUTRAL and (value is None or value in NEUTRAL[name])):
        return True
    if name in NEUTRAL:
        raise bad_request(
            f"'{name}' is not supported by this server: leave it out",
            param=name,
            code="unsupported_parameter",
        )
    hint = did_you_mean(name, ChatRequest.model_fields)
    raise bad_request(f"unknown field '{name}'{hint}", param=name, code="unknown_parameter")


def _first_problem(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    # a union's location ends in the name of the alternative that was tried: keep only keys and indices of the body
    where = [
        str(part) for part in first["loc"] if not (isinstance(part, str) and ("[" in part or part == "str"))
    ]
    param = ".".join(where)
    if first["type"] == "extra_forbidden":
        message = f"unknown field '{param}'"
    else:
        message = f"'{param}': {first['msg'].removeprefix('Value error, ')}"
    return bad_request(message, param=param, code="invalid_value")


def _check_together(request: ChatRequest) -> None:
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stops) > 16 or any(not text or len(text) > 1000 for text in stops):
        raise bad_request(
            "'stop' should be up to 16 texts of 1 to 1,000 characters", param="stop", code="invalid_value"
        )
    if request.stream_options is not None and not request.stream:
        raise bad_request(
            "'stream_options' is only for 'stream': true", param="stream_options", code="invalid_value"
        )
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request("'top_logprobs' needs 'logprobs': true", param="top_logprobs", code="invalid_value")
