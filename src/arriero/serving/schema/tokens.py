"""The bodies of `/tokenize` and `/detokenize`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from arriero.serving.errors import bad_request
from arriero.serving.schema.body import Body
from arriero.serving.schema.chat import Message
from arriero.serving.schema.sampling import TokenId
from arriero.serving.schema.tools import Tool


class TokenizeRequest(Body):
    """A text, or a conversation up to the header of the answer to come, as the chat template renders it."""

    model: str | None = None
    prompt: str | None = Field(default=None, description="a text")
    messages: list[Message] | None = Field(default=None, min_length=1, description="or a conversation")
    tools: list[Tool] | None = Field(default=None, max_length=128)
    add_special_tokens: bool | None = Field(
        default=None, description="begin with BOS; by default as the tokenizer does"
    )
    return_token_strs: bool | None = Field(default=None, description="with each token's text")

    def check(self) -> None:
        """Exactly one of prompt and messages."""
        if (self.prompt is None) == (self.messages is None):
            raise bad_request("give one of 'prompt' and 'messages'", param="prompt", code="invalid_value")


class DetokenizeRequest(Body):
    """Token ids to turn into text; bytes that are not UTF-8 become U+FFFD."""

    model: str | None = None
    tokens: Annotated[list[TokenId], Field(max_length=1_000_000)]
    skip_special_tokens: bool = Field(default=False, description="leave special tokens out")
