"""From what clients send to token ids."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from arriero.errors import ArrieroError
from arriero.serving.errors import bad_request

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer


class Prompts:
    """Texts as the model's tokenizer writes them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def begins_with_bos(self) -> bool:
        """Whether the tokenizer by itself puts BOS before a text (its post-processor does)."""
        template = self._tokenizer.definition.get("post_processor") or {}
        steps = template.get("processors", [template])
        first = [step["single"][0] for step in steps if step.get("single")]
        named = [piece["SpecialToken"]["id"] for piece in first if "SpecialToken" in piece]
        return any(self._tokenizer.token_id(name) == self._tokenizer.bos_id for name in named)

    def text(self, text: str, special: bool | None = None) -> list[int]:
        """Ids of a text; ``special``: with BOS, by default as the tokenizer itself does. No text at all is BOS.

        Raises:
            ApiError: 400, the text cannot be encoded.
        """
        bos = self.begins_with_bos if special is None else special
        try:
            return self._tokenizer.encode(text, bos=bos or (not text and special is None))
        except ArrieroError as error:
            raise bad_request(str(error), param="prompt", code="invalid_value") from None

    def infill(self, prefix: str, suffix: str, special: bool | None = None) -> list[int]:
        """Ids of a prompt that asks for what stands between two texts.

        Raises:
            ApiError: 400, the model has no tokens for that.
        """
        from arriero.tokenization.infill import infill_prompt

        bos = self.begins_with_bos if special is None else special
        try:
            return infill_prompt(self._tokenizer, prefix, suffix, bos=bos)
        except ArrieroError as error:
            raise bad_request(f"'suffix': {error}", param="suffix", code="unsupported_parameter") from None
