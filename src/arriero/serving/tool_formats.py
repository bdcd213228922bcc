"""How models write the calls of functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.tokenization.chat import ChatTemplate


@dataclass(frozen=True)
class ToolFormat:
    """One way of writing a call: ``opener {"name": "...", "<arguments>": {...}} closer``.

    Attributes:
        opener, closer: what stands around a call's JSON. Without an opener a call must begin the answer.
        between: what separates two calls of one answer; empty where there can be only one.
        arguments: the key of the arguments.
        native: the template renders tools, calls and results; else they are written into the messages as text.
    """

    name: str
    opener: str
    closer: str
    between: str
    arguments: str = "arguments"
    native: bool = True

    @property
    def start(self) -> str:
        """What a call begins with, up to the name of its function."""
        return f'{self.opener}{{"name": "'

    @property
    def middle(self) -> str:
        """What stands between the name and the arguments."""
        return f'", "{self.arguments}": '

    @property
    def end(self) -> str:
        """What follows the arguments."""
        return f"}}{self.closer}"

    def call(self, name: str, arguments: str) -> str:
        """A call as the model writes it."""
        return f"{self.start}{name}{self.middle}{arguments}{self.end}"


HERMES = ToolFormat("hermes", "<tool_call>\n", "\n</tool_call>", "\n")
"""Hermes 2 Pro, Qwen 2.5 and 3, and many that were tuned on their data."""

LLAMA3 = ToolFormat("llama3", "", "", "", "parameters")
"""Llama 3.1 and later."""

GENERIC = ToolFormat("generic", HERMES.opener, HERMES.closer, HERMES.between, native=False)
"""For templates that know no tools, or write them in a way that is not in this table: Hermes' way, explained to the
model in a system message."""

FORMATS = (HERMES, LLAMA3)


_FUNCTION = {"name": "look_up", "description": "", "parameters": {"type": "object", "properties": {}}}
_CALL = {"id": "call_0", "type": "function", "function": {"name": "look_up", "arguments": {"word": "tree"}}}


@lru_cache(maxsize=32)
def format_of(template: ChatTemplate) -> ToolFormat:
    """The format of a chat template: it is made to write a call, and the format that reads it is the one."""
    if not template.knows_tools:
        return GENERIC
    user = {"role": "user", "content": "Look it up."}
    tools = [{"type": "function", "function": _FUNCTION}]
    try:
        prompt = template.render([user], tools=tools, add_generation_prompt=True).text
        calls = {"role": "assistant", "content": None, "tool_calls": [_CALL]}
        written = template.render([user, calls], tools=tools).text
    except ArrieroError:
        return GENERIC
    answer = written.removeprefix(prompt).lstrip()
    for form in FORMATS:
        call = form.call("look_up", '{"word": "tree"}')
        if call in written if form.opener else answer.startswith(call):
            return form
    return GENERIC


EXPLANATION = """\
You may call functions. These are there, each described by a line of JSON:
<tools>
{tools}
</tools>
To call one, write its name and its arguments as JSON, like this:
{example}
What it gives comes back between <tool_response> and </tool_response>. Where no function helps, answer without one."""


def explain(tools: list[dict[str, object]]) -> str:
    """The system message that tells a model of its functions."""
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return EXPLANATION.format(tools=lines, example=GENERIC.call("the_name", '{"an_argument": "its value"}'))
