"""A conversation on its way to the engine: its prompt, what the answer has to be, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arriero.errors import ArrieroError
from arriero.inference.grammar.spec import GrammarSpec
from arriero.serving.errors import bad_request
from arriero.serving.reader import Reader
from arriero.serving.schema.chat import ChatRequest, Message
from arriero.serving.schema.responses import InputCall, InputItem, InputMessage, ResponsesRequest
from arriero.serving.schema.tools import CalledFunction, ToolCall
from arriero.serving.tools import Tools

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True)
class Conversation:
    """Token ids of a conversation up to the header of the answer, the answer's grammar, and the tools in it."""

    prompt: list[int]
    grammar: GrammarSpec | None
    tools: Tools

    def reader(self) -> Reader:
        """A reader for one answer."""
        return Reader(self.tools.reader())

    @classmethod
    def of_chat(cls, tokenizer: Tokenizer, body: ChatRequest) -> Conversation:
        """The conversation of a chat completion.

        Raises:
            ApiError: 400, the chat template refuses it, or its fields do not go together.
        """
        choice = body.tool_choice
        named = None if choice is None or isinstance(choice, str) else choice.function.name
        functions = [tool.function for tool in body.tools or []]
        plain = choice if isinstance(choice, str) else None
        return _made(
            tokenizer, body.messages, functions, plain, named, body.parallel_tool_calls, body.grammar()
        )

    @classmethod
    def of_responses(
        cls, tokenizer: Tokenizer, body: ResponsesRequest, messages: Sequence[Message]
    ) -> Conversation:
        """The conversation of a response: the instructions first.

        Raises:
            ApiError: 400, see :meth:`of_chat`.
        """
        head = [] if body.instructions is None else [Message(role="system", content=body.instructions)]
        choice = body.tool_choice
        named = None if choice is None or isinstance(choice, str) else choice.name
        plain = choice if isinstance(choice, str) else None
        return _made(
            tokenizer, [*head, *messages], body.tools or [], plain, named, body.parallel_tool_calls, body.grammar()
        )  # fmt: skip


def _made(
    tokenizer: Tokenizer, messages: Sequence[Message], functions: Sequence[Any], choice: Any, named: str | None,
    parallel: bool | None, form: GrammarSpec | None,
) -> Conversation:  # fmt: skip
    try:
        tools = Tools.of(tokenizer.chat, functions, choice, name=named, parallel=parallel)
        prompt = tools.prompt(tokenizer.chat, [as_template(m) for m in messages])
    except ArrieroError as error:
        raise bad_request(str(error), param="messages", code="invalid_value") from None
    try:
        return Conversation(prompt, tools.grammar(form), tools)
    except ArrieroError as error:
        raise bad_request(str(error), param="tools", code="invalid_grammar") from None


def prompt_of(tokenizer: Tokenizer, messages: Sequence[Message], functions: Sequence[Any]) -> list[int]:
    """Ids of a conversation as an answer to it would see them.

    Raises:
        ApiError: 400, the chat template refuses it, or there is none.
    """
    return _made(tokenizer, messages, functions, None, None, None, None).prompt


def as_template(message: Message) -> dict[str, Any]:
    """A message as chat templates take it. OpenAI's "developer" is its newer word for "system"."""
    told: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.text(),
    }
    if message.tool_calls:
        told["tool_calls"] = [call.model_dump() for call in message.tool_calls]
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    return told


def messages_of_items(items: Sequence[InputItem]) -> list[Message]:
    """Items of the Responses API as messages; calls that follow one another are one message's."""
    messages: list[Message] = []
    for item in items:
        if isinstance(item, InputMessage):
            messages.append(Message(role=item.role, content=item.text()))
        elif isinstance(item, InputCall):
            _add_call(messages, item.call_id, item.name, item.arguments)
        else:
            messages.append(Message(role="tool", tool_call_id=item.call_id, content=item.text()))
    return messages


def messages_of_output(output: Sequence[dict[str, Any]]) -> list[Message]:
    """What a response put out, as the messages that the conversation goes on from."""
    messages: list[Message] = []
    for item in output:
        if item["type"] == "message":
            text = "".join(part["text"] for part in item["content"])
            messages.append(Message(role="assistant", content=text))
        else:
            _add_call(messages, item["call_id"], item["name"], item["arguments"])
    return messages


def _add_call(messages: list[Message], call_id: str, name: str, arguments: str) -> None:
    call = ToolCall(id=call_id, function=CalledFunction(name=name, arguments=arguments))
    if messages and messages[-1].role == "assistant":
        last = messages.pop()
        messages.append(last.model_copy(update={"tool_calls": [*(last.tool_calls or []), call]}))
    else:
        messages.append(Message(role="assistant", content=None, tool_calls=[call]))
