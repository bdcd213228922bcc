"""The answers of `/v1/responses`: one response object, and the events by which it grows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arriero.serving.answer import Usage, new_id, token_content
from arriero.serving.errors import ApiError
from arriero.serving.reader import Argued, Called, Reader, Said, text_of
from arriero.serving.ticket import Piece

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

Json = dict[str, Any]
Event = tuple[str, Json]


@dataclass
class ResponseAnswer:
    """A response on its way.

    Args:
        base: the fields of the response that are known from the request.
        logprobs: how many best tokens to show at each place; None shows no log-probabilities.
    """

    base: Json
    usage: Usage
    tokenizer: Tokenizer
    logprobs: int | None
    reader: Reader
    output: list[Json] = field(default_factory=list)
    finish_reason: str | None = None
    _number: int = 0

    # ------------------------------------------------------------ whole

    def whole(self, pieces: list[Piece]) -> Json:
        """The response when it is not streamed."""
        for piece in pieces:
            for _ in self._take(piece):
                pass
        return self.response()

    def response(self) -> Json:
        """The response as it is now."""
        status, details = "in_progress", None
        if self.finish_reason is not None:
            status = "incomplete" if self.finish_reason == "length" else "completed"
            details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        done = self.finish_reason is not None
        return {
            **self.base,
            "status": status,
            "incomplete_details": details,
            "output": [dict(item) for item in self.output],
            "usage": self._usage() if done else None,
        }

    def _usage(self) -> Json:
        told = self.usage.told()
        usage = {
            "input_tokens": told["prompt_tokens"],
            "input_tokens_details": told["prompt_tokens_details"],
            "output_tokens": told["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": told["total_tokens"],
        }
        return usage if "cost" not in told else usage | {"cost": told["cost"]}

    # ------------------------------------------------------------ as events

    def opening(self) -> Iterator[Json]:
        """The events before the first token."""
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, {"response": self.response()})

    def chunks(self, piece: Piece) -> Iterator[Json]:
        """The events that a piece makes."""
        for kind, fields in self._take(piece):
            yield self._event(kind, fields)

    def ending(self) -> Iterator[Json]:
        """The last event, with the whole response."""
        response = self.response()
        yield self._event(f"response.{response['status']}", {"response": response})

    def failed(self, error: ApiError) -> Iterator[Json]:
        """The last event of a response that failed."""
        told = {"code": "server_error", "message": error.message}
        yield self._event(
            "response.failed", {"response": {**self.response(), "status": "failed", "error": told}}
        )

    def _event(self, kind: str, fields: Json) -> Json:
        number, self._number = self._number, self._number + 1
        return {"type": kind, **fields, "sequence_number": number}

    # ------------------------------------------------------------ growing

    def _take(self, piece: Piece) -> Iterator[Event]:
        """Take a piece in; gives the events it makes, kind and fields."""
        self.usage.count(piece)
        parts = self.reader.push(piece.text, last=piece.finish_reason is not None)
        tokens = token_content(self.tokenizer, piece.steps) if self.logprobs is not None else []
        text = text_of(parts)
        if text or (tokens and not self.reader.called):
            yield from self._text(text, tokens)
        for part in parts:
            if not isinstance(part, Said):
                yield from self._call(part)
        if piece.finish_reason is not None:
            if not self.output:
                yield from self._text("", [])
            yield from self._close()
            self.finish_reason = piece.finish_reason

    def _text(self, text: str, tokens: list[Json]) -> Iterator[Event]:
        if not self.output or self.output[-1]["type"] != "message":
            yield from self._close()
            item: Json = {
                "id": new_id("msg_"), "type": "message", "status": "in_progress", "role": "assistant", "content": [],
            }  # fmt: skip
            yield from self._add(item)
            item["content"].append({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
            yield "response.content_part.added", {**self._part_place(), "part": dict(item["content"][0])}
        part = self.output[-1]["content"][0]
        part["text"] += text
        part["logprobs"] += tokens
        if text or tokens:
            yield (
                "response.output_text.delta",
                {**self._part_place(), "delta": text, "logprobs": _brief(tokens)},
            )

    def _call(self, part: Called | Argued) -> Iterator[Event]:
        if isinstance(part, Called):
            yield from self._close()
            item: Json = {
                "id": new_id("fc_"), "type": "function_call", "status": "in_progress", "call_id": part.id,
                "name": part.name, "arguments": "",
            }  # fmt: skip
            yield from self._add(item)
        elif part.text:
            self.output[-1]["arguments"] += part.text
            yield "response.function_call_arguments.delta", {**self._place(), "delta": part.text}

    def _add(self, item: Json) -> Iterator[Event]:
        self.output.append(item)
        added = {**item, "content": []} if item["type"] == "message" else dict(item)
        yield "response.output_item.added", {"output_index": len(self.output) - 1, "item": added}

    def _close(self) -> Iterator[Event]:
        """End the item that is being written, if there is one."""
        if not self.output or self.output[-1]["status"] != "in_progress":
            return
        item = self.output[-1]
        item["status"] = "completed"
        if item["type"] == "message":
            part = item["content"][0]
            told = {"text": part["text"], "logprobs": _brief(part["logprobs"])}
            yield "response.output_text.done", {**self._part_place(), **told}
            yield "response.content_part.done", {**self._part_place(), "part": dict(part)}
        else:
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield "response.function_call_arguments.done", {**self._place(), **told}
        yield "response.output_item.done", {"output_index": len(self.output) - 1, "item": dict(item)}

    def _place(self) -> Json:
        return {"item_id": self.output[-1]["id"], "output_index": len(self.output) - 1}

    def _part_place(self) -> Json:
        return {**self._place(), "content_index": 0}


def _brief(tokens: Iterable[Json]) -> list[Json]:
    """Log-probabilities as the events show them: without the bytes."""
    return [
        {
            "token": t["token"],
            "logprob": t["logprob"],
            "top_logprobs": [{"token": b["token"], "logprob": b["logprob"]} for b in t["top_logprobs"]],
        }
        for t in tokens
    ]
