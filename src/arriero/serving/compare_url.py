"""A server as the engine to compare with: Arriero, vLLM, SGLang, llama.cpp's, or any that gives log-probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from arriero.errors import ArrieroError
from arriero.serving.client import get_json, post_json
from arriero.serving.compare import Scores

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

SERVER_TOLERANCE = 0.05
"""Nats. Servers compute in 16 bits as often as not; give --tolerance for one that is known better."""
_POSITIONS = 12
"""Of a text, where the server only tells the next token: so many places, spread evenly."""


class Server:
    """A server that speaks OpenAI's protocol.

    A prompt's log-probabilities are asked for with `echo`, as evaluation harnesses do. A server that has no `echo` is
    asked for the next token after a few beginnings of the text.

    Raises:
        ArrieroError: no server there, or it refuses.
    """

    tolerance = SERVER_TOLERANCE

    def __init__(self, url: str, key: str | None, tokenizer: Tokenizer) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._key = key
        self._tokenizer = tokenizer
        self._model = str(get_json(self._url, key, "/v1/models")["data"][0]["id"])
        self._echoes = True
        self.name = f"{self._model} at {self._url}"

    def ids(self, text: str) -> list[int] | None:
        """As vLLM's `/tokenize` takes it, then as llama.cpp's does."""
        bodies: tuple[dict[str, Any], ...] = (
            {"model": self._model, "prompt": text, "add_special_tokens": False},
            {"content": text, "add_special": False, "parse_special": False},
        )
        return self._tokens(bodies)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str | list[int] | None:
        """By `/tokenize` (vLLM) or `/apply-template` (llama.cpp)."""
        asked = [dict(m) for m in messages]
        found = self._tokens(({"model": self._model, "messages": asked},))
        if found is not None:
            return found
        answer = self._try("/apply-template", {"messages": asked})
        return answer["prompt"] if answer and isinstance(answer.get("prompt"), str) else None

    def scores(self, ids: list[int]) -> Scores:
        if self._echoes:
            found = self._echoed(ids)
            if found is not None:
                return found
            self._echoes = False
        return self._next_tokens(ids)

    def _echoed(self, ids: list[int]) -> Scores | None:
        """The prompt's own log-probabilities, or None where the server does not echo."""
        body = {
            "model": self._model, "prompt": ids, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1,
        }  # fmt: skip
        answer = self._try("/v1/completions", body)
        told = ((answer or {}).get("choices") or [{}])[0].get("logprobs") or {}
        values = told.get("token_logprobs") or []
        if len(values) < len(ids) or all(value is None for value in values[1 : len(ids)]):
            return None
        said = [(i - 1, ids[i], float(values[i])) for i in range(1, len(ids)) if values[i] is not None]
        tops = told.get("top_logprobs") or []
        best: dict[int, int] = {}
        for i, top in enumerate(tops[1 : len(ids)]):
            token = self._ids.get(_most_probable(top)) if top else None
            if token is not None:
                best[i] = token
        return Scores(said=said, best=best)

    def _next_tokens(self, ids: list[int]) -> Scores:
        """The most probable next tokens at a few places.

        Raises:
            ArrieroError: the server gives no log-probabilities of completions.
        """
        said: list[tuple[int, int, float]] = []
        best: dict[int, int] = {}
        step = max(1, (len(ids) - 1) // _POSITIONS)
        for end in range(1, len(ids), step):
            body = {
                "model": self._model,
                "prompt": ids[:end],
                "max_tokens": 1,
                "temperature": 0,
                "logprobs": 5,
            }
            told = (
                post_json(self._url, self._key, "/v1/completions", body)["choices"][0].get("logprobs")
            ) or {}
            top: dict[str, float] = (told.get("top_logprobs") or [{}])[0] or {}
            for text, logprob in top.items():
                token = self._ids.get(text)
                if token is not None:
                    said.append((end - 1, token, float(logprob)))
            if top:
                token = self._ids.get(_most_probable(top))
                best |= {end - 1: token} if token is not None else {}
        if not said:
            raise ArrieroError(
                f"{self.name} gives no log-probabilities (asked: /v1/completions with logprobs)"
            )
        return Scores(said=said, best=best)

    @cached_property
    def _ids(self) -> dict[str, int]:
        """Token by its text. Texts of several tokens (such as bytes that are no whole character) are left out."""
        texts = [
            self._tokenizer.token_bytes(i).decode("utf-8", "replace")
            for i in range(self._tokenizer.vocab_size)
        ]
        once = {text for text, number in Counter(texts).items() if number == 1}
        return {text: i for i, text in enumerate(texts) if text in once}

    def _tokens(self, bodies: Sequence[dict[str, Any]]) -> list[int] | None:
        for body in bodies:
            answer = self._try("/tokenize", body)
            tokens = answer.get("tokens") if answer else None
            if isinstance(tokens, list) and all(isinstance(t, int) for t in tokens):
                return tokens
        return None

    def _try(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer, or None where the server refuses the question."""
        try:
            answer = post_json(self._url, self._key, path, body)
        except ArrieroError:
            return None
        return answer if isinstance(answer, dict) else None


def _most_probable(top: Mapping[str, float]) -> str:
    return max(top, key=lambda text: top[text])
