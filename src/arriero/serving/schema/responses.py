"""The body of `/v1/responses`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from arriero.inference.grammar.spec import GrammarSpec
from arriero.serving.errors import bad_request
from arriero.serving.schema.body import HARMLESS, Part
from arriero.serving.schema.formats import TextOptionFormat, grammar_of
from arriero.serving.schema.sampling import SamplingFields, only_one

LOGPROBS = "message.output_text.logprobs"
_DROPPED = ("id", "status", "phase")
"""Fields of an answer's items that say nothing when they are sent back."""


class ItemText(Part):
    """Text in a message: put in, or put out by an earlier answer."""

    type: Literal["input_text", "output_text", "text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _drop(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: v for k, v in value.items() if k not in ("annotations", "logprobs")}


class _Item(Part):
    @model_validator(mode="before")
    @classmethod
    def _drop(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if k not in _DROPPED} if isinstance(value, dict) else value


class InputMessage(_Item):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ItemText]

    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)


class InputCall(_Item):
    """A call that an earlier answer made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class InputResult(_Item):
    """What the called function gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[ItemText]

    def text(self) -> str:
        """The output as one text."""
        return self.output if isinstance(self.output, str) else "".join(p.text for p in self.output)


InputItem = InputMessage | InputCall | InputResult


class FlatTool(Part):
    """A function that the model may call, as the Responses API writes it."""

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FlatToolChoice(Part):
    """The one tool that must be called."""

    type: Literal["function"]
    name: str


class TextOptions(Part):
    """The form of the text."""

    format: TextOptionFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponseStreamOptions(Part):
    """How to stream."""

    include_obfuscation: bool = Field(default=False, description="accepted, without effect")


class ResponsesRequest(SamplingFields):
    """The body of a response: text in, text and function calls out."""

    harmless: ClassVar[frozenset[str]] = HARMLESS - {"store"}
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {
        "background": (False,),
        "context_management": ([],),
        "conversation": (),
        "max_tool_calls": (),
        "prompt": (),
        "reasoning": ({}, {"effort": "none"}),
        "truncation": ("disabled",),
    }

    model: str = Field(description="the served model, or one of its adapters")
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=10_000)]
    instructions: str | None = Field(default=None, description="a system message before the input")
    previous_response_id: str | None = Field(default=None, description="go on from a stored response")
    store: bool | None = Field(default=None, description="keep it for previous_response_id; true if left out")
    max_output_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    stream: bool | None = Field(default=None, description="server-sent events")
    stream_options: ResponseStreamOptions | None = None
    text: TextOptions | None = None
    tools: list[FlatTool] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | FlatToolChoice | None = None
    parallel_tool_calls: bool | None = Field(default=None, description="several calls in one answer")
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    include: list[Literal["message.output_text.logprobs"]] | None = None

    def logprobs(self) -> int | None:
        """How many best tokens to report at each place; None for no log-probabilities at all."""
        asked = LOGPROBS in (self.include or []) or self.top_logprobs
        return (self.top_logprobs or 0) if asked else None

    def grammar(self) -> GrammarSpec | None:
        """What the answer has to be, tools left out."""
        asked = [grammar_of(self.text.format if self.text is not None else None), self.guide()]
        return only_one([spec for spec in asked if spec is not None])

    def items(self) -> list[InputItem]:
        """The input as items."""
        if isinstance(self.input, str):
            return [InputMessage(role="user", content=self.input)]
        return self.input

    def check(self) -> None:
        """Refuse fields that do not go together."""
        if self.stream_options is not None and not self.stream:
            raise bad_request(
                "'stream_options' is only for 'stream': true", param="stream_options", code="invalid_value"
            )
