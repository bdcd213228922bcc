"""The body of `/v1/chat/completions`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from arriero.inference.grammar.spec import GrammarSpec
from arriero.inference.request import Sampling
from arriero.serving.errors import bad_request
from arriero.serving.schema.body import HARMLESS, Part
from arriero.serving.schema.formats import ResponseFormat, grammar_of
from arriero.serving.schema.sampling import SamplingFields, StreamOptions, only_one
from arriero.serving.schema.tools import Tool, ToolCall, ToolChoice

EMPTY_OF_ANSWERS = frozenset(
    {"annotations", "audio", "function_call", "reasoning", "reasoning_content", "refusal", "tool_calls"}
)
"""Fields of OpenAI's answers that a message may carry when they are empty."""


class TextPart(Part):
    """A part of a message's content; text is the only kind."""

    type: Literal["text"]
    text: str


class Message(Part):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any) -> Any:
        """Clients send an answer back as they got it, with its empty fields."""
        if not isinstance(value, dict):
            return value
        return {k: v for k, v in value.items() if not (k in EMPTY_OF_ANSWERS and v in (None, [], {}))}

    def text(self) -> str:
        """The content as one text."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(SamplingFields):
    """The body of a chat completion: OpenAI's fields, and what vLLM has beyond them under vLLM's names."""

    harmless: ClassVar[frozenset[str]] = HARMLESS
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {
        "audio": (),
        "function_call": ("none", "auto"),
        "functions": ([],),
        "modalities": (["text"],),
        "prediction": (),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "web_search_options": (),
    }

    model: str = Field(description="the served model, or one of its adapters")
    messages: list[Message] = Field(min_length=1, max_length=10_000)
    n: int | None = Field(default=None, ge=1, le=128, description="so many answers")
    stream: bool | None = Field(default=None, description="server-sent events, token by token")
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    max_completion_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    logprobs: bool | None = Field(default=None, description="report every token's natural-log probability")
    top_logprobs: int | None = Field(default=None, ge=0, le=20, description="and so many best beside it")
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(default=None, max_length=128)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(default=None, description="several calls in one answer")

    def sampling(self, max_tokens: int | None) -> Sampling:
        """The engine's settings. ``max_tokens`` is used where the request names no limit."""
        return self.make_sampling(
            self.max_completion_tokens or self.max_tokens or max_tokens,
            (self.top_logprobs or 0) if self.logprobs else None,
        )

    def grammar(self) -> GrammarSpec | None:
        """What the answer has to be, tools left out."""
        asked = [grammar_of(self.response_format), self.guide()]
        return only_one([spec for spec in asked if spec is not None])

    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that holds the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check(self) -> None:
        """Refuse fields that do not go together."""
        if self.stream_options is not None and not self.stream:
            raise bad_request(
                "'stream_options' is only for 'stream': true", param="stream_options", code="invalid_value"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise bad_request(
                "'top_logprobs' needs 'logprobs': true", param="top_logprobs", code="invalid_value"
            )
        for number, message in enumerate(self.messages):
            self._check_message(number, message)

    def _check_message(self, number: int, message: Message) -> None:
        where = f"messages.{number}"
        if message.content is None and not message.tool_calls:
            raise _wrong(f"{where}.content", "text is needed")
        if message.tool_calls and message.role != "assistant":
            raise _wrong(f"{where}.tool_calls", "only an assistant's message makes calls")
        if (message.role == "tool") != (message.tool_call_id is not None):
            raise _wrong(
                f"{where}.tool_call_id", "a message of role 'tool' has one, and no other message does"
            )


def _wrong(param: str, what: str) -> Exception:
    return bad_request(f"'{param}': {what}", param=param, code="invalid_value")
