"""Conversations and preference pairs from the JSONL layouts in use, and their held-out share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from arriero.data.jsonl import iter_records
from arriero.errors import ArrieroError
from arriero.tokenization.chat import check_messages

Message = dict[str, str]


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, the first preferred. ``prompt`` ends before the answer."""

    prompt: list[Message]
    chosen: str
    rejected: str


Row = TypeVar("Row", bound="list[Message] | Preference")


def read_conversations(path: Path) -> list[list[Message]]:
    """Conversations from JSONL(.gz), each line in one of these layouts:

    ``{"messages": [{"role", "content"}, ...]}``, ``{"prompt", "response"}`` (or ``"completion"``),
    ``{"instruction", "input"?, "output"}``, each with an optional ``"system"`` in the last two.

    Raises:
        ArrieroError: the file cannot be read, a line has none of the layouts, or nothing is in it.
    """
    return list(_rows(path, _conversation))


def read_preferences(path: Path) -> list[Preference]:
    """Preference pairs from JSONL(.gz): ``{"prompt", "chosen", "rejected"}``, each a string or messages, or
    ``{"instruction", "input"?, "chosen", "rejected"}``.

    Raises:
        ArrieroError: the file cannot be read, a line has none of the layouts, or nothing is in it.
    """
    return list(_rows(path, _preference))


def split_holdout(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(train, held out), about ``share`` of the rows held out.

    Decided by a hash of the first user message alone: rows with the same first question stay together, other rows
    do not matter, and conversations and preference pairs over the same prompts agree.
    """
    train: list[Row] = []
    held: list[Row] = []
    for row in rows:
        (held if is_held_out(_first_question(row), share, seed) else train).append(row)
    return train, held


def is_held_out(key: str, share: float, seed: int) -> bool:
    """True for about ``share`` of all keys, decided by a hash of the key and the seed alone."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share


def _first_question(row: list[Message] | Preference) -> str:
    messages = row.prompt if isinstance(row, Preference) else row
    return next((m["content"] for m in messages if m["role"] == "user"), messages[0]["content"]).strip()


def _rows(path: Path, read: Any) -> Iterator[Any]:
    found = False
    for number, record in iter_records(path):
        try:
            yield read(record)
        except ArrieroError as error:
            raise ArrieroError(f"{path} line {number}: {error}") from None
        found = True
    if not found:
        raise ArrieroError(f"{path} is empty; one JSON object a line is expected")


def _conversation(record: Mapping[str, Any]) -> list[Message]:
    if "messages" in record:
        messages = _messages(record["messages"])
    elif "prompt" in record and ("response" in record or "completion" in record):
        answer = record.get("response", record.get("completion"))
        messages = [*_prompt(record), {"role": "assistant", "content": _answer(answer, "response")}]
    elif "instruction" in record and "output" in record:
        messages = [*_prompt(record), {"role": "assistant", "content": _answer(record["output"], "output")}]
    else:
        layouts = "messages; prompt and response or completion; instruction, input and output"
        raise ArrieroError(
            f"no conversation in the keys {', '.join(record) or '(none)'}; expected: {layouts}"
        )
    if not any(message["role"] == "assistant" for message in messages):
        raise ArrieroError("the conversation has no answer (no message with the role assistant)")
    return messages


def _preference(record: Mapping[str, Any]) -> Preference:
    if not {"chosen", "rejected"} <= record.keys() or not record.keys() & {"prompt", "instruction"}:
        layouts = "prompt, chosen and rejected; instruction, input, chosen and rejected"
        raise ArrieroError(
            f"no preference pair in the keys {', '.join(record) or '(none)'}; expected: {layouts}"
        )
    prompt = _prompt(record)
    if prompt[-1]["role"] == "assistant":
        raise ArrieroError("the prompt ends with an answer; it should end with what is answered")
    return Preference(prompt, *(_answer(record[side], side, prompt) for side in ("chosen", "rejected")))


def _prompt(record: Mapping[str, Any]) -> list[Message]:
    """The messages before the answer: the prompt, or the instruction with its input two lines below it."""
    system = record.get("system")
    head = [{"role": "system", "content": _text(system, "system")}] if system else []
    if "prompt" in record:
        prompt = record["prompt"]
        return head + (_messages(prompt) if isinstance(prompt, list) else [_user(_text(prompt, "prompt"))])
    instruction, given = (
        _text(record["instruction"], "instruction"),
        _text(record.get("input") or "", "input"),
    )
    return [*head, _user(f"{instruction}\n\n{given}" if given else instruction)]


def _answer(value: Any, key: str, prompt: list[Message] | None = None) -> str:
    """An answer given as a string or as messages, which may repeat the prompt before it."""
    if not isinstance(value, list):
        return _text(value, key)
    messages = _messages(value)
    if messages[-1]["role"] != "assistant":
        raise ArrieroError(f"{key} should end with a message of the role assistant")
    before = messages[:-1]
    if before and before != prompt:
        raise ArrieroError(f"{key} repeats another prompt than the pair's own")
    return messages[-1]["content"]


def _messages(value: Any) -> list[Message]:
    check_messages(value)
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise ArrieroError(f"{key} should be a string, not {type(value).__name__}")
    return value
