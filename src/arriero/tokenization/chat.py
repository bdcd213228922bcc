"""Conversations to ids: one rendering, one tokenisation, and which tokens are supervised.

The template is Jinja and lives in ``tokenizer_config.json``, so that transformers renders the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import TemplateError, nodes

from arriero.errors import ArrieroError
from arriero.tokenization.marks import Layout, environment, marked, read_marks
from arriero.tokenization.special import ROLES
from arriero.tokenization.supervision import infer_answers

Message = Mapping[str, Any]


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
        self._special = re.compile(
            "|".join(map(re.escape, sorted(special_ids, key=len, reverse=True))) or "(?!)"
        )
        self._encode_pieces = encode_pieces
        try:
            sandbox = environment()
            self._template = sandbox.from_string(template)
            self._marks_answers = sandbox.parse(template).find(nodes.ExtensionAttribute) is not None
        except TemplateError as error:
            raise ArrieroError(f"the chat template is not valid Jinja: {error}") from None
        self._refuse_changed_contents()

    def _refuse_changed_contents(self) -> None:
        """Marks are followed only where contents are used as they are, or stripped of white space."""
        probe = [{"role": "user", "content": " a\n"}, {"role": "assistant", "content": "\nb "}]
        fields = {"add_generation_prompt": False, "tools": None, "documents": None, **self._names}
        try:
            plain = read_marks(self._template.render(messages=probe, **fields)).text
        except TemplateError:
            return  # it wants another conversation; what render() refuses is said there
        if self._layout(probe, False).text != plain:
            raise ArrieroError(
                "the chat template changes the contents of messages other than by stripping white space"
            )

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> Rendered:
        """Text, ids and supervision mask of a conversation.

        ``add_generation_prompt`` appends the header of the answer to come. Then the ids are exactly
        the first ids of the rendering with that answer appended to ``messages``.

        Answers are what the template marks with ``{% generation %}``; where it marks nothing, what each of the
        assistant's turns adds to the prompt that is served. If that cannot be told, a conversation is refused, and a
        prompt (which nothing is learnt from) has an empty mask.

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
        return Rendered(
            layout.text, ids, _overlaps(spans, self._answers(messages, layout, add_generation_prompt))
        )

    def _answers(self, messages: Sequence[Message], layout: Layout, prompt: bool) -> list[tuple[int, int]]:
        if self._marks_answers:
            return layout.answers
        try:
            return infer_answers(messages, layout, self._layout, self._special)
        except ArrieroError:
            if prompt:
                return []
            raise

    def _layout(self, messages: Sequence[Message], add_generation_prompt: bool) -> Layout:
        try:
            rendered = self._template.render(
                messages=[{"role": m["role"], "content": marked(m["content"])} for m in messages],
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
                **self._names,
            )
        except TemplateError as error:
            raise ArrieroError(f"the chat template refuses the conversation: {error}") from None
        return read_marks(rendered)

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


def _overlaps(tokens: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[bool]:
    """Which tokens have a character in one of the spans; both lists are in order of the text."""
    mask = []
    position = 0
    for start, end in tokens:
        while position < len(spans) and spans[position][1] <= start:
            position += 1
        mask.append(position < len(spans) and spans[position][0] < end)
    return mask
