"""Conversations to ids: one rendering, one tokenisation, and which tokens are supervised.

The template is Jinja and lives in ``tokenizer_config.json``, so that transformers renders the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from arriero.errors import ArrieroError
from arriero.tokenization.special import ROLES

Message = Mapping[str, Any]

# Where the template puts contents, and what it calls the assistant's, is found by marks in the rendered text:
# one character of the private use area and a digit. That character inside a content is escaped, so a content
# cannot forge a mark.
_MARK = "\uf8d0"
_ESCAPED, _CONTENT, _CONTENT_END, _ANSWER, _ANSWER_END = (_MARK + digit for digit in "01234")
_SPLIT = re.compile(f"({_MARK}[0-4])")


class _Encoded(Protocol):
    @property
    def ids(self) -> list[int]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...


@dataclass(frozen=True)
class Rendered:
    """A conversation as text and as ids. ``mask[i]``: the loss counts for ``ids[i]`` (an answer's content and the
    end-of-turn token after it; never a header)."""

    text: str
    ids: list[int]
    mask: list[bool]


@dataclass
class _Layout:
    """The rendered text, where in it contents lie, and where answers."""

    text: str = ""
    contents: list[tuple[int, int]] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)


class _Generation(Extension):
    """``{% generation %}...{% endgeneration %}``: what the assistant says, as in transformers."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_answer"), [], [], body).set_lineno(line)

    def _answer(self, caller: Callable[[], str]) -> str:
        return f"{_ANSWER}{caller()}{_ANSWER_END}"


def _raise(message: str) -> None:
    raise TemplateError(message)


def _trim(value: str, characters: str | None = None) -> str:
    """Jinja's filter ``trim``, which here trims inside the marks of a content."""
    value = str(value)
    if value.startswith(_CONTENT) and value.endswith(_CONTENT_END):
        return _CONTENT + value[len(_CONTENT) : -len(_CONTENT_END)].strip(characters) + _CONTENT_END
    return value.strip(characters)


def _environment() -> ImmutableSandboxedEnvironment:
    """The sandbox that transformers renders chat templates in, with marks."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["trim"] = _trim
    environment.globals["raise_exception"] = _raise
    return environment


class ChatTemplate:
    """Renders and tokenises conversations of a tokenizer.

    Against injection: only the template's own literals become special tokens. Where a content holds, say,
    ``<|im_end|>``, these characters are encoded as the plain text that they are. transformers tokenises the rendered
    text as a whole and would take them for the special token; so for such hostile contents (and for no
    others) our ids differ from its, on purpose.
    """

    def __init__(
        self,
        template: str,
        special_names: Mapping[str, str],
        special_ids: Mapping[str, int],
        encode_pieces: Callable[[Sequence[str]], Sequence[_Encoded]],
    ) -> None:
        """``special_names``: what the template may call by name (bos_token, ...); ``special_ids``: name -> id."""
        self.source = template
        self._names = dict(special_names)
        self._special_ids = dict(special_ids)
        self._special = re.compile(
            "|".join(map(re.escape, sorted(special_ids, key=len, reverse=True))) or "(?!)"
        )
        self._encode_pieces = encode_pieces
        try:
            self._template = _environment().from_string(template)
        except TemplateError as error:
            raise ArrieroError(f"the chat template is not valid Jinja: {error}") from None
        self._refuse_changed_contents()

    def _refuse_changed_contents(self) -> None:
        """Marks are followed only where contents are used as they are, or through the filter ``trim``."""
        probe = [{"role": "user", "content": " a\n"}, {"role": "assistant", "content": "\nb "}]
        fields = {"add_generation_prompt": False, "tools": None, "documents": None, **self._names}
        try:
            plain = _read_marks(self._template.render(messages=probe, **fields)).text
        except TemplateError:
            return  # it wants another conversation; what render() refuses is said there
        if self._layout(probe, False).text != plain:
            raise ArrieroError(
                "the chat template changes the contents of messages other than by the filter trim"
            )

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> Rendered:
        """Text, ids and supervision mask of a conversation.

        ``add_generation_prompt`` appends the header of the answer to come. Then the ids are exactly
        the first ids of the rendering with that answer appended to ``messages``.

        Raises:
            ArrieroError: no messages, an unknown role, or a content that is not a string.
        """
        check_messages(messages)
        layout = self._layout(messages, add_generation_prompt)
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for piece_ids, piece_spans in self._tokenise(layout):
            ids += piece_ids
            spans += piece_spans
        return Rendered(layout.text, ids, _overlaps(spans, layout.answers))

    def _layout(self, messages: Sequence[Message], add_generation_prompt: bool) -> _Layout:
        marked = [
            {"role": m["role"], "content": _CONTENT + m["content"].replace(_MARK, _ESCAPED) + _CONTENT_END}
            for m in messages
        ]
        try:
            rendered = self._template.render(
                messages=marked,
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
                **self._names,
            )
        except TemplateError as error:
            raise ArrieroError(f"the chat template refuses the conversation: {error}") from None
        return _read_marks(rendered)

    def _tokenise(self, layout: _Layout) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        """(ids, character spans) of every special token and of every stretch of plain text between two of them.

        A stretch is encoded as a whole, header and content together, as any tokenizer does that
        splits at special tokens first; so the ids are transformers' ids.
        """
        specials = list(self._literal_specials(layout))
        starts = [0, *(end for _, end in specials)]
        ends = [*(start for start, _ in specials), len(layout.text)]
        encodings = self._encode_pieces([layout.text[s:e] for s, e in zip(starts, ends, strict=True)])
        for position, encoding in enumerate(encodings):
            shift = starts[position]
            yield encoding.ids, [(start + shift, end + shift) for start, end in encoding.offsets]
            if position < len(specials):
                start, end = specials[position]
                yield [self._special_ids[layout.text[start:end]]], [(start, end)]

    def _literal_specials(self, layout: _Layout) -> Iterator[tuple[int, int]]:
        """Special tokens that lie in the template's own text, between the contents."""
        starts = [0, *(end for _, end in layout.contents)]
        ends = [*(start for start, _ in layout.contents), len(layout.text)]
        for start, end in zip(starts, ends, strict=True):
            for match in self._special.finditer(layout.text, start, end):
                yield match.span()


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse what no template can render, naming the message by its number.

    Raises:
        ArrieroError: no messages, an unknown role, or a content that is not a string.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise ArrieroError("a conversation needs at least one message")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise ArrieroError(f"message {number} should be an object with role and content")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise ArrieroError(f"message {number} has the unknown role {role!r}; known: {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise ArrieroError(
                f"the content of message {number} should be a string, not {type(content).__name__}"
            )


def _read_marks(rendered: str) -> _Layout:
    """Take the marks out of a rendered text and note where they were."""
    layout = _Layout()
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


def _overlaps(tokens: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[bool]:
    """Which tokens have a character in one of the spans; both lists are in order of the text."""
    mask = []
    position = 0
    for start, end in tokens:
        while position < len(spans) and spans[position][1] <= start:
            position += 1
        mask.append(position < len(spans) and spans[position][0] < end)
    return mask
