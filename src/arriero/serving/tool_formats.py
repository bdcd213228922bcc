"""How models write the calls of functions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.tokenization.chat import ChatTemplate


@dataclass(frozen=True)
class ToolFormat:
    """One way of writing calls: ``opener call between call ... closer``, a call being ``head NAME middle {...} tail``.

    Attributes:
        opener, closer: what stands around all calls of an answer. Without an opener a call must begin the answer.
        between: what separates two calls of one answer; None where there can be only one.
        arguments: the key of the arguments, where a call is a JSON object.
        head, joint, tail: what stands around name and arguments; by default those of a JSON object.
        numbered: a call's object may end with an ``id`` of nine letters and digits.
        native: the template renders tools, calls and results; else they are written into the messages as text.
        marks: those of the format's words that are special tokens of the model at hand.
    """

    name: str
    opener: str
    closer: str
    between: str | None
    arguments: str = "arguments"
    head: str = '{"name": "'
    joint: str | None = None
    tail: str = "}"
    numbered: bool = False
    native: bool = True
    marks: tuple[str, ...] = ()

    @property
    def trigger(self) -> str:
        """The first word of a call, by which it is told from a text; empty without an opener."""
        marked = MARK.match(self.opener)
        return self.opener.strip() if marked is None else marked[0]

    @property
    def start(self) -> str:
        """What the first call begins with, up to the name of its function."""
        return self.opener + self.head

    @property
    def middle(self) -> str:
        """What stands between the name and the arguments."""
        return f'", "{self.arguments}": ' if self.joint is None else self.joint

    def call(self, name: str, arguments: str, number: str | None = None) -> str:
        """An answer of one call as the model writes it; ``number``: the call's id."""
        return self.answer([(name, arguments)], number)

    def answer(self, calls: Sequence[tuple[str, str]], number: str | None = None) -> str:
        """Calls, (name, arguments) each, as the model writes them."""
        tail = self.tail if number is None else f', "id": "{number}"{self.tail}'
        written = [f"{self.head}{name}{self.middle}{arguments}{tail}" for name, arguments in calls]
        return f"{self.opener}{(self.between or '').join(written)}{self.closer}"


MARK = re.compile(r"\[[A-Z_]+\]")
"""Mistral's words, which are special tokens of its tokenizers."""

HERMES = ToolFormat("hermes", "<tool_call>\n", "\n</tool_call>", "\n</tool_call>\n<tool_call>\n")
"""Hermes 2 Pro, Qwen 2.5 and 3, and many that were tuned on their data."""

LLAMA3 = ToolFormat("llama3", "", "", None, "parameters")
"""Llama 3.1 and later."""

MISTRAL = ToolFormat("mistral", "[TOOL_CALLS] [", "]", ", ", numbered=True)
"""Mistral's tokenizers of version 3: Mistral 7B v0.3, Mixtral 8x22B, Mistral Large."""

NEMO = replace(MISTRAL, name="nemo", opener="[TOOL_CALLS][")
"""The same with Tekken's tokenizers, which have no space there: Mistral Nemo, Ministral 8B."""

MISTRAL_ARGS = ToolFormat(
    "mistral-args", "[TOOL_CALLS]", "", "[TOOL_CALLS]", head="", joint="[ARGS]", tail=""
)
"""Mistral's tokenizers of version 13: Devstral 2507, Magistral 2509, Ministral 3."""

GENERIC = replace(HERMES, name="generic", native=False)
"""For templates that know no tools, or write them in a way that is not in this table: Hermes' way, explained to the
model in a system message."""

FORMATS = (HERMES, LLAMA3, MISTRAL, NEMO, MISTRAL_ARGS)


_FUNCTION = {"name": "look_up", "description": "", "parameters": {"type": "object", "properties": {}}}
_NUMBER = "lookup001"
_CALL = {"id": _NUMBER, "type": "function", "function": {"name": "look_up", "arguments": {"word": "tree"}}}


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
        ways = [form.call("look_up", '{"word": "tree"}', number) for number in (None, _NUMBER)]
        if any(call in written if form.opener else answer.startswith(call) for call in ways):
            return replace(form, marks=_marks(form, template))
    return GENERIC


def _marks(form: ToolFormat, template: ChatTemplate) -> tuple[str, ...]:
    words = dict.fromkeys(MARK.findall(form.opener + form.middle))
    return tuple(word for word in words if word in template.special_names)


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
