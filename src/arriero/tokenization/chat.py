"""Conversations to ids: one rendering, one tokenisation, and which tokens are supervised.

The template is Jinja and lives in ``tokenizer_config.json``, so that transformers renders the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import TemplateError, meta, nodes

from arriero.errors import ArrieroError
from arriero.tokenization.marks import Layout, environment, hide, marked, read_marks
from arriero.tokenization.special import ROLES, TOOL
from arriero.tokenization.supervision import infer_answers

Message = Mapping[str, Any]
Tools = Sequence[Mapping[str, Any]]

_FAULTS = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template may raise on messages that it was not made for."""


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
        self.special_names = frozenset(special_ids)
        self._special = re.compile(
            "|".join(map(re.escape, sorted(special_ids, key=len, reverse=True))) or "(?!)"
        )
        self._encode_pieces = encode_pieces
        try:
            sandbox = environment()
            self._template = sandbox.from_string(template)
            parsed = sandbox.parse(template)
            self._marks_answers = parsed.find(nodes.ExtensionAttribute) is not None
            self.knows_tools = "tools" in meta.find_undeclared_variables(parsed)
        except TemplateError as error:
            raise ArrieroError(f"the chat template is not valid Jinja: {error}") from None
        self._refuse_changed_contents()

    def _refuse_changed_contents(self) -> None:
        """Marks are followed only where contents are used as they are, or stripped of white space."""
        probe = [{"role": "user", "content": " a\n"}, {"role": "assistant", "content": "\nb "}]
        fields = {"add_generation_prompt": False, "tools": None, "documents": None, **self._names}
        try:
            plain = read_marks(self._template.render(messages=probe, **fields)).text
        except _FAULTS:
            return  # it wants another conversation; what render() refuses is said there
        if self._layout(probe, False).text != plain:
            raise ArrieroError(
                "the chat template changes the contents of messages other than by stripping white space"
            )

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tools: Tools | None = None
    ) -> Rendered:
        """Text, ids and supervision mask of a conversation.

        ``tools`` are OpenAI's descriptions of functions, for a template that ``knows_tools``. Messages may hold
        ``tool_calls`` (with their arguments as objects), ``tool_call_id`` and ``name``, and have the role "tool".
        Such a conversation has an empty mask unless the template marks answers.

        ``add_generation_prompt`` appends the header of the answer to come. Then the ids are exactly
        the first ids of the rendering with that answer appended to ``messages``.

        Answers are what the template marks with ``{% generation %}``; where it marks nothing, what each of the
        assistant's turns adds to the prompt that is served. If that cannot be told, a conversation is refused, and a
        prompt (which nothing is learnt from) has an empty mask.

        Raises:
            ArrieroError: no messages, an unknown role, or a content that is not a string.
        """
        check_messages(messages, (*ROLES, TOOL) if self.knows_tools else ROLES)
        layout = self._layout(messages, add_generation_prompt, tools)
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for piece_ids, piece_spans in self._tokenise(layout):
            ids += piece_ids
            spans += piece_spans
        return Rendered(
            layout.text, ids, _overlaps(spans, self._answers(messages, layout, add_generation_prompt))
        )

    def _answers(self, messages: Sequence[Message], layout: Layout, prompt: bool) -> list[tuple[int, int]]:
        if self._marks_answers:
            return layout.answers
        if layout.tools:
            return []
        try:
            return infer_answers(messages, layout, self._layout, self._special)
        except ArrieroError:
            if prompt:
                return []
            raise

    def _layout(
        self, messages: Sequence[Message], add_generation_prompt: bool, tools: Tools | None = None
    ) -> Layout:
        try:
            rendered = self._template.render(
                messages=[self._fields(m) for m in messages],
                add_generation_prompt=add_generation_prompt,
                tools=None if tools is None else hide(tools, self._special),
                documents=None,
                **self._names,
            )
        except _FAULTS as error:
            raise ArrieroError(f"the chat template refuses the conversation: {error}") from None
        layout = read_marks(rendered)
        layout.tools = tools is not None or any(m["role"] == TOOL or m.get("tool_calls") for m in messages)
        return layout

    def _fields(self, message: Message) -> dict[str, Any]:
        """A message as the template gets it: marked content, and nothing in it that could pass for a special token."""
        more = {key: hide(message[key], self._special) for key in _TOOL_KEYS if message.get(key)}
        content = message.get("content") or ""
        # templates ask whether a message that makes calls also says something
        silent = not content and "tool_calls" in more
        return {"role": message["role"], "content": "" if silent else marked(content), **more}

    def _tokenise(self, layout: Layout) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
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

    def _literal_specials(self, layout: Layout) -> Iterator[tuple[int, int]]:
        """Special tokens that lie in the template's own text, between the contents."""
        starts = [0, *(end for _, end in layout.contents)]
        ends = [*(start for start, _ in layout.contents), len(layout.text)]
        for start, end in zip(starts, ends, strict=True):
            for match in self._special.finditer(layout.text, start, end):
                yield match.span()


_TOOL_KEYS = ("tool_calls", "tool_call_id", "name")


def check_messages(messages: Sequence[Message], roles: Sequence[str] = ROLES) -> None:
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
        if role not in roles:
            raise ArrieroError(f"message {number} has the unknown role {role!r}; known: {', '.join(roles)}")
        calls = TOOL in roles and role == "assistant" and message.get("tool_calls")
        if not isinstance(content, str) and not (calls and content is None):
            raise ArrieroError(
                f"the content of message {number} should be a string, not {type(content).__name__}"
            )


def _overlaps(tokens: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[bool]:
    """Which tokens have a character in one of the spans; both lists are in order of the text."""
    mask = []
    position = 0
    for start, end in tokens:
        while position < len(spans) and spans[position][1] <= start:
            position += 1
        mask.append(position < len(spans) and spans[position][0] < end)
    return mask
