"""Texts and pairs of texts as an encoder reads them: special tokens, segments, and what is too long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as Core
from tokenizers.processors import TemplateProcessing

from arriero.inference.encoder_request import EncoderInput
from arriero.inference.request import RequestError
from arriero.tokenization.tokenizer import Tokenizer

Text = str | Sequence[int]
"""A text, or the ids of one, special tokens included."""


class TextReader:
    """Makes inputs of texts.

    The special tokens are those of the tokenizer's own template. A special token's name inside a text is plain text.

    Args:
        longest: most tokens of an input, special ones included; None: no limit.
        framed: texts stand between BOS and EOS (BERT's [CLS] and [SEP]) where the tokenizer has no template.
        segments: the model tells the first text of a pair from the second.
    """

    def __init__(self, tokenizer: Tokenizer, longest: int | None, framed: bool, segments: bool) -> None:
        self.longest, self._segments = longest, segments
        self._definition = {**tokenizer.definition, "truncation": None, "padding": None}
        self._frame = None if self._definition.get("post_processor") or not framed else _frame(tokenizer)
        self._core = self._make()

    def read(self, texts: Sequence[Text], truncate: bool = False) -> list[EncoderInput]:
        """Inputs of single texts.

        Args:
            truncate: cut what is too long at its end; else it is refused.

        Raises:
            RequestError: a text is empty, too long, or no Unicode text.
        """
        plain = [text for text in texts if isinstance(text, str)]
        encoded = iter(self._encode(plain, truncate))
        made = [self._of(next(encoded)) if isinstance(t, str) else self._given(t, truncate) for t in texts]
        return self._checked(made, "text")

    def read_pairs(self, pairs: Sequence[tuple[str, str]], truncate: bool = False) -> list[EncoderInput]:
        """Inputs of pairs, query first; where ``truncate`` cuts, the longer of the two loses first.

        Raises:
            RequestError: as in :meth:`read`.
        """
        return self._checked([self._of(e) for e in self._encode(pairs, truncate)], "pair")

    def _encode(self, texts: Sequence[Any], truncate: bool) -> list[Encoding]:
        core = self._cutting if truncate else self._core
        try:
            return core.encode_batch(list(texts))
        except (UnicodeEncodeError, TypeError):
            raise RequestError(
                "a text is not Unicode: it holds half of a surrogate pair", param="input"
            ) from None

    def _of(self, encoding: Encoding) -> EncoderInput:
        ids = tuple(encoding.ids)
        kinds = tuple(encoding.type_ids) if self._segments else ()
        return EncoderInput(ids, kinds if any(kinds) else None)

    def _given(self, ids: Sequence[int], truncate: bool) -> EncoderInput:
        return EncoderInput(tuple(ids[: self.longest] if truncate else ids))

    def _checked(self, inputs: list[EncoderInput], what: str) -> list[EncoderInput]:
        for index, one in enumerate(inputs):
            if not one.ids:
                raise RequestError(f"{what} {index} has no token", param="input")
            if self.longest is not None and len(one.ids) > self.longest:
                raise RequestError(
                    f"{what} {index} has {len(one.ids):,} tokens, the model reads {self.longest:,}: shorten it, or ask "
                    "for it to be cut off (truncate)",
                    param="input",
                    code="context_length_exceeded",
                )
        return inputs

    def _make(self) -> Core:
        core = Core.from_str(json.dumps(self._definition))
        core.encode_special_tokens = True
        if self._frame is not None:
            core.post_processor = self._frame
        return core

    @cached_property
    def _cutting(self) -> Core:
        core = self._make()
        if self.longest is not None:
            core.enable_truncation(self.longest, strategy="longest_first")
        return core


def _frame(tokenizer: Tokenizer) -> TemplateProcessing:
    """``[CLS] A [SEP]`` and ``[CLS] A [SEP] B [SEP]`` of a tokenizer without a template."""
    names = {id: name for name, id in tokenizer.special_ids.items()}
    first, last = names[tokenizer.bos_id], names[tokenizer.eos_id]
    return TemplateProcessing(
        single=[first, "$A", last],
        pair=[first, "$A", last, "$B:1", f"{last}:1"],
        special_tokens=[(first, tokenizer.bos_id), (last, tokenizer.eos_id)],
    )
