"""The answers of `/v1/completions`, in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arriero.inference.request import PromptToken
from arriero.serving.answer import Head, TokenList, Usage
from arriero.serving.ticket import Piece

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

KIND = "text_completion"


@dataclass
class CompletionAnswer:
    """The answers to all prompts of a request.

    Args:
        prompts: the prompts' texts where they are to be given back, else empty texts. n: answers to each.
        with_prompt: report the prompts' log-probabilities too. new_text: False leaves out what was generated
            (``max_tokens: 0``, where the engine had to give one token to tell about the prompt).
    """

    head: Head
    usage: Usage
    tokenizer: Tokenizer
    prompts: Sequence[str]
    n: int
    with_logprobs: bool
    new_text: bool = True
    _lists: dict[int, TokenList] = field(default_factory=dict)
    _prompt_tokens: dict[int, tuple[PromptToken, ...]] = field(default_factory=dict)

    def whole(self, pieces: list[Piece]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        choices = [
            self._join(
                index, [choice for piece in pieces if piece.index == index for choice in self._of(piece)]
            )
            for index in range(len(self.prompts) * self.n)
        ]
        return {**self.head.told(KIND), "choices": choices, "usage": self.usage.told()}

    def chunks(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """The chunks of a stream that a piece makes."""
        for choice in self._of(piece):
            if choice["text"] or choice["logprobs"] or choice["finish_reason"]:
                yield {**self.head.told(KIND), "choices": [choice]}

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk when the client asked for the usage."""
        return {**self.head.told(KIND), "choices": [], "usage": self.usage.told()}

    def _of(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """The piece as a choice; before the first one of an answer the prompt, when it is wanted."""
        if not self.new_text:
            piece = Piece(piece.index, finish_reason=piece.finish_reason and "length", prompt=piece.prompt)
        if piece.prompt:
            self._prompt_tokens[piece.index // self.n] = piece.prompt
        if piece.index not in self._lists:
            self._lists[piece.index] = TokenList(self.tokenizer)
            yield self._echo(piece.index)
        self.usage.count(piece)
        steps = [(s.token_id, s.logprob, s.top) for s in piece.steps if s.token_id is not None]
        logprobs = self._lists[piece.index].add(steps) if self.with_logprobs and steps else None
        yield _choice(piece.index, piece.text, logprobs, piece.finish_reason)

    def _echo(self, index: int) -> dict[str, Any]:
        prompt = index // self.n
        tokens = [(t.token_id, t.logprob, t.top) for t in self._prompt_tokens.get(prompt, ())]
        logprobs = self._lists[index].add(tokens) if self.with_logprobs and tokens else None
        return _choice(index, self.prompts[prompt], logprobs, None)

    def _join(self, index: int, parts: list[dict[str, Any]]) -> dict[str, Any]:
        logprobs: dict[str, Any] | None = None
        if self.with_logprobs:
            logprobs = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
            for part in parts:
                for name, values in (part["logprobs"] or {}).items():
                    logprobs[name] += values
        reason = parts[-1]["finish_reason"] if parts else None
        return _choice(index, "".join(part["text"] for part in parts), logprobs, reason)


def _choice(index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
