"""Responses that are kept for a later ``previous_response_id``: the latest ones, in bounded memory."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from arriero.serving.schema.chat import Message

MAX_BYTES = 32 << 20


@dataclass(frozen=True)
class Stored:
    """A response, and the conversation that led to it and ends with it (instructions left out)."""

    body: dict[str, Any]
    messages: tuple[Message, ...]
    bytes: int


class ResponseStore:
    """The latest ``most`` responses, as long as they fit into ``max_bytes``; what is oldest goes first."""

    def __init__(self, most: int, max_bytes: int = MAX_BYTES) -> None:
        self._most, self._max_bytes = most, max_bytes
        self._kept: OrderedDict[str, Stored] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, body: dict[str, Any], messages: list[Message]) -> None:
        """Keep a response; one that is too large by itself is not kept."""
        size = len(json.dumps(body)) + sum(len(m.text()) + 100 for m in messages)
        if self._most < 1 or size > self._max_bytes:
            return
        self._kept[body["id"]] = Stored(body, tuple(messages), size)
        self._bytes += size
        while len(self._kept) > self._most or self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.bytes

    def get(self, response_id: str) -> Stored | None:
        """The response, or None when it was never kept or is forgotten."""
        return self._kept.get(response_id)

    def drop(self, response_id: str) -> bool:
        """Forget a response; whether there was one."""
        found = self._kept.pop(response_id, None)
        if found is not None:
            self._bytes -= found.bytes
        return found is not None
