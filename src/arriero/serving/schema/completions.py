"""The body of `/v1/completions`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from arriero.inference.grammar.spec import GrammarSpec
from arriero.serving.errors import bad_request
from arriero.serving.schema.body import HARMLESS
from arriero.serving.schema.formats import ResponseFormat, grammar_of
from arriero.serving.schema.sampling import SamplingFields, StreamOptions, TokenId, only_one

MAX_PROMPTS = 256

Ids = Annotated[list[TokenId], Field(min_length=1)]


class CompletionRequest(SamplingFields):
    """The body of a completion: one text or several, or token ids; the model goes on from each."""

    harmless: ClassVar[frozenset[str]] = HARMLESS

    model: str = Field(description="the served model, or one of its adapters")
    prompt: (
        str
        | Ids
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_PROMPTS)]
    ) = Field(description="a text, token ids, or a list of either")
    suffix: str | None = Field(default=None, description="text after the gap; only for models that infill")
    max_tokens: int | None = Field(default=None, ge=0, lt=2**31, description="16 where it is left out")
    n: int | None = Field(default=None, ge=1, le=128, description="so many answers to each prompt")
    best_of: int | None = Field(
        default=None, ge=1, le=128, description="draw so many, give the n most probable"
    )
    echo: bool | None = Field(
        default=None, description="begin with the prompt; with logprobs its log-probs too"
    )
    logprobs: int | None = Field(
        default=None, ge=0, le=20, description="log-probs, and so many best at each place"
    )
    stream: bool | None = Field(default=None, description="server-sent events, token by token")
    stream_options: StreamOptions | None = None
    add_special_tokens: bool | None = Field(
        default=None, description="begin texts with BOS; by default as the tokenizer itself does"
    )
    response_format: ResponseFormat | None = None

    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts as a list of texts, or of lists of ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt

    def limit(self) -> int:
        """Most new tokens; OpenAI's own default is 16."""
        return 16 if self.max_tokens is None else self.max_tokens

    def grammar(self) -> GrammarSpec | None:
        """What the answer has to be."""
        asked = [grammar_of(self.response_format), self.guide()]
        return only_one([spec for spec in asked if spec is not None])

    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that holds the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check(self) -> None:
        """Refuse fields that do not go together."""
        answers = self.n or 1
        if self.stream_options is not None and not self.stream:
            raise _wrong("stream_options", "is only for 'stream': true")
        if self.best_of is not None and self.best_of < answers:
            raise _wrong("best_of", f"should be at least n, which is {answers}")
        if self.best_of is not None and self.best_of > answers and self.stream:
            raise _wrong("best_of", "the best answers are known only at the end: they cannot be streamed")
        if self.limit() == 0 and not self.echo:
            raise _wrong("max_tokens", "0 is only for 'echo': true")
        if self.suffix is not None and self.echo:
            raise _wrong("echo", "a prompt with a suffix cannot be given back as one text")
        if self.suffix is not None and not isinstance(self.prompt, str):
            raise _wrong("suffix", "goes with one prompt that is a text")


def _wrong(param: str, what: str) -> Exception:
    return bad_request(f"'{param}': {what}", param=param, code="invalid_value")
