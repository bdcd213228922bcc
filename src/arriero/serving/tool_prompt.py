"""Conversations with tools, for the chat template: native where it knows them, as text where it does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from arriero.errors import ArrieroError
from arriero.serving.tool_formats import ToolFormat, explain

if TYPE_CHECKING:
    from arriero.tokenization.chat import ChatTemplate

Message = dict[str, Any]
Tools = list[dict[str, Any]]
SHORT = 9


def prompt_of(
    template: ChatTemplate, form: ToolFormat, messages: Sequence[Mapping[str, Any]], tools: Tools
) -> list[int]:
    """Ids of the prompt.

    Args:
        messages: OpenAI's: role, content (text or None), and ``tool_calls``, ``tool_call_id`` where they belong.
        tools: descriptions of the functions that the model is told of; empty for none.

    Raises:
        ArrieroError: the template cannot render the conversation.
    """
    if form.native:
        native = [_native(message, form) for message in messages]
        return template.render(native, add_generation_prompt=True, tools=tools or None).ids
    plain = [_plain(message, form) for message in messages]
    if not tools:
        return template.render(_joined(plain), add_generation_prompt=True).ids
    told = explain(tools)
    try:
        return template.render(_joined(_with_system(plain, told)), add_generation_prompt=True).ids
    except ArrieroError:  # some templates have no place for a system message
        return template.render(
            _joined([{"role": "user", "content": told}, *plain]), add_generation_prompt=True
        ).ids


def _native(message: Mapping[str, Any], form: ToolFormat) -> Message:
    """Templates want the arguments as objects, where OpenAI has JSON text; Mistral's want short ids, too."""
    known = dict(message)
    if form.numbered and known.get("tool_call_id"):
        known["tool_call_id"] = short_id(known["tool_call_id"])
    if known.get("tool_calls"):
        known["tool_calls"] = [_call(call, form) for call in known["tool_calls"]]
    return known


def _call(call: Mapping[str, Any], form: ToolFormat) -> dict[str, Any]:
    function = call["function"]
    told = {**call, "function": {**function, "arguments": read_arguments(function["arguments"])}}
    return {**told, "id": short_id(call["id"])} if form.numbered and call.get("id") else told


def short_id(number: str) -> str:
    """The id of a call in nine letters and digits, as Mistral's templates demand: the same for the same id."""
    if len(number) == SHORT and number.isascii() and number.isalnum():
        return number
    return hashlib.sha256(number.encode("utf-8", "surrogatepass")).hexdigest()[:SHORT]


def read_arguments(text: str) -> Any:
    """The arguments of an earlier call; what is no JSON object stays a text."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _plain(message: Mapping[str, Any], form: ToolFormat) -> Message:
    """A message with its calls, or its result, as text."""
    content = message.get("content") or ""
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    made = [
        (c["function"]["name"], json.dumps(read_arguments(c["function"]["arguments"]), ensure_ascii=False))
        for c in message.get("tool_calls") or ()
    ]
    calls = form.answer(made) if made else ""
    return {
        "role": message["role"],
        "content": f"{content}\n{calls}" if content and calls else content or calls,
    }


def _with_system(messages: list[Message], told: str) -> list[Message]:
    if messages and messages[0]["role"] == "system":
        first = {"role": "system", "content": f"{messages[0]['content']}\n\n{told}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": told}, *messages]


def _joined(messages: list[Message]) -> list[Message]:
    """Results in a row are one message of the user's: many templates want the roles to take turns."""
    joined: list[Message] = []
    for message in messages:
        if joined and message["role"] == joined[-1]["role"] == "user":
            joined[-1] = {"role": "user", "content": f"{joined[-1]['content']}\n{message['content']}"}
        else:
            joined.append(message)
    return joined
