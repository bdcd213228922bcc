"""Where a chat template puts contents, and what it calls the assistant's, found by marks in the rendered text.

A mark is one character of the private use area and a digit. That character inside a content is escaped, so a content
cannot forge a mark. The sandbox is transformers', but it strips white space inside the marks of a content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MARK = "\uf8d0"
_ESCAPED, _CONTENT, _CONTENT_END, _ANSWER, _ANSWER_END = (_MARK + digit for digit in "01234")
_SPLIT = re.compile(f"({_MARK}[0-4])")
_MARKS_BEFORE = re.compile(f"(?:{_MARK}[1-4])*")
_MARKS_AFTER = re.compile(f"(?:{_MARK}[1-4])*\\Z")


@dataclass
class Layout:
    """The rendered text, where in it contents lie, where answers (as far as the template says so), and whether tools
    are part of the conversation."""

    text: str = ""
    contents: list[tuple[int, int]] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)
    tools: bool = False


def marked(content: str) -> str:
    """A content between its marks."""
    return _CONTENT + content.replace(_MARK, _ESCAPED) + _CONTENT_END


def hide(value: Any, special: re.Pattern[str]) -> Any:
    """A value of JSON in which every text that holds a special token's name lies between a content's marks.

    Other texts stay as they are, because templates compare them.
    """
    if isinstance(value, str):
        return marked(value) if _MARK in value or special.search(value) else value
    if isinstance(value, Mapping):
        return {hide(key, special): hide(part, special) for key, part in value.items()}
    return [hide(part, special) for part in value] if isinstance(value, list | tuple) else value


def read_marks(rendered: str) -> Layout:
    """Take the marks out of a rendered text and note where they were."""
    layout = Layout()
    parts: list[str] = []
    length = content_start = answer_start = 0
    for part in _SPLIT.split(rendered):
        if part == _CONTENT:
            content_start = length
        elif part == _CONTENT_END:
            layout.contents.append((content_start, length))
        elif part == _ANSWER:
            answer_start = length
        elif part == _ANSWER_END:
            layout.answers.append((answer_start, length))
        else:
            text = _MARK if part == _ESCAPED else part
            parts.append(text)
            length += len(text)
    layout.text = "".join(parts)
    return layout


def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox that transformers renders chat templates in, with marks."""
    sandbox = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    sandbox.filters["trim"] = _trim
    sandbox.filters["tojson"] = _tojson
    sandbox.globals["raise_exception"] = _raise
    sandbox.globals["strftime_now"] = _strftime_now
    return sandbox


def _strftime_now(format: str) -> str:
    """Today, for templates that tell the model the date (Llama 3.2, gpt-oss)."""
    return datetime.now().strftime(format)


class _Generation(Extension):
    """``{% generation %}...{% endgeneration %}``: what the assistant says, as in transformers."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_answer"), [], [], body).set_lineno(line)

    def _answer(self, caller: Callable[[], str]) -> str:
        return f"{_ANSWER}{caller()}{_ANSWER_END}"


class _Sandbox(ImmutableSandboxedEnvironment):
    """Where a template calls ``content.strip()``, the marks stay outside of what is stripped."""

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        value, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(value, str) and name in ("strip", "lstrip", "rstrip"):  # kwargs: Jinja's own
            return _strip(value, *args, left=name != "rstrip", right=name != "lstrip")
        return super().call(__context, __obj, *args, **kwargs)


def _strip(value: str, characters: str | None = None, *, left: bool = True, right: bool = True) -> str:
    """``value.strip(characters)`` as if the marks at the ends were not there."""
    while left:
        marks = _MARKS_BEFORE.match(value).group()  # type: ignore[union-attr]
        rest = value[len(marks) :].lstrip(characters)
        if marks + rest == value:
            break
        value = marks + rest
    while right:
        marks = _MARKS_AFTER.search(value).group()  # type: ignore[union-attr]
        rest = value[: len(value) - len(marks)].rstrip(characters)
        if rest + marks == value:
            break
        value = rest + marks
    return value


def _trim(value: str, characters: str | None = None) -> str:
    return _strip(str(value), characters)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers: plain JSON, nothing escaped for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise TemplateError(message)
