"""Tools: what the model is told of its functions, what it may write, and what it has called.

The calls are forced into shape by a grammar, so that nothing has to be guessed out of free text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from arriero.inference.grammar.spec import GrammarSpec
from arriero.serving.errors import bad_request
from arriero.serving.tool_formats import ToolFormat, format_of
from arriero.serving.tool_grammar import Function, call_grammar
from arriero.serving.tool_prompt import prompt_of
from arriero.serving.tool_reader import ToolReader

if TYPE_CHECKING:
    from arriero.tokenization.chat import ChatTemplate

Choice = Literal["none", "auto", "required"]


@dataclass(frozen=True)
class Tools:
    """The functions of one request.

    Attributes:
        form: how the model writes calls.
        told: OpenAI's descriptions of the functions that the model is told of.
        callable: functions that it may call; none: it cannot call any.
        forced: it must call one.
        parallel: it may call several in one answer.
    """

    form: ToolFormat
    told: tuple[dict[str, Any], ...]
    callable: tuple[Function, ...]
    forced: bool
    parallel: bool

    @classmethod
    def of(
        cls,
        template: ChatTemplate,
        functions: Sequence[Any] | None,
        choice: Choice | None = None,
        *,
        name: str | None = None,
        parallel: bool | None = None,
    ) -> Tools:
        """The functions that a request offers, with ``name``, ``description``, ``parameters`` and ``strict`` each.

        Args:
            choice: OpenAI's ``tool_choice``; None is "auto" where there are functions. name: the one function that
                must be called, instead of ``choice``.
            parallel: OpenAI's ``parallel_tool_calls``; None is true.

        Raises:
            ApiError: 400: two functions have one name, or the choice asks for what is not there.
        """
        offered = list(functions or ())
        names = [function.name for function in offered]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise _wrong("tools", f"two functions are called '{twice}'")
        if name is not None and name not in names:
            raise _wrong("tool_choice", f"there is no function '{name}' in 'tools'")
        if choice == "required" and not offered:
            raise _wrong("tool_choice", "'required' needs 'tools'")
        form = format_of(template)
        if not offered or (choice == "none" and name is None):
            return cls(form, (), (), False, False)
        wanted = tuple(f for f in offered if name in (None, f.name))
        told = tuple(described(f) for f in offered)
        # OpenAI's API makes one call where it is named
        several = (parallel is None or parallel) and name is None
        return cls(form, told, wanted, choice == "required" or name is not None, several)

    def prompt(self, template: ChatTemplate, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Ids of the prompt for OpenAI's messages, earlier calls and their results among them.

        Raises:
            ArrieroError: the template cannot render the conversation.
        """
        return prompt_of(template, self.form, messages, list(self.told))

    def grammar(self, text: GrammarSpec | None = None) -> GrammarSpec | None:
        """What the answer must be. ``text``: what it must be where it calls nothing; None for free text.

        Raises:
            GrammarError: the schema of a function is refused.
        """
        if not self.callable:
            return text
        return call_grammar(self.form, self.callable, forced=self.forced, parallel=self.parallel, text=text)

    def reader(self) -> ToolReader | None:
        """What takes calls out of an answer; None where there can be none."""
        return ToolReader(self.form, frozenset(f.name for f in self.callable)) if self.callable else None


def finish_reason(reason: str | None, reader: ToolReader | None) -> str | None:
    """OpenAI's reason for an answer's end: "tool_calls" where it ended with calls."""
    return "tool_calls" if reason == "stop" and reader is not None and reader.calls else reason


def described(function: Any) -> dict[str, Any]:
    """OpenAI's description of a function, as chat templates take it."""
    parameters = (
        function.parameters if function.parameters is not None else {"type": "object", "properties": {}}
    )
    told: dict[str, Any] = {
        "name": function.name,
        "description": function.description or "",
        "parameters": parameters,
    }
    return {"type": "function", "function": told}


def _wrong(param: str, what: str) -> Exception:
    return bad_request(f"'{param}': {what}", param=param, code="invalid_value")
