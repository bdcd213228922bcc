"""Tools as OpenAI's clients describe them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from arriero.serving.schema.body import Part


class Function(Part):
    """A function that the model may call; ``parameters`` is a JSON Schema of an object."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Part):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class FunctionName(Part):
    """A function by its name."""

    name: str


class NamedToolChoice(Part):
    """The one tool that must be called."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice


class CalledFunction(Part):
    """A function's name and its arguments, as JSON text."""

    name: str
    arguments: str


class ToolCall(Part):
    """A call that an earlier answer made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
