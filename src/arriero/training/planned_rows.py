"""Rows of conversations that cannot be tokenised yet: as long as they are likely to become."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arriero.training.objectives.sft import Row

HEADER_TOKENS, CLOSING_TOKENS = 4, 2
"""Tokens that a ChatML message takes before its content (start, role, line break) and after it (end of turn, line
break), with a vocabulary of a few thousand."""
_BYTES_PER_TOKEN = {
    300: 1.39, 400: 1.70, 512: 1.88, 768: 2.11, 1024: 2.24, 2048: 2.62, 4096: 2.94, 8192: 3.27, 16384: 3.63,
    131072: 4.5,
}  # fmt: skip


def bytes_per_token(vocab_size: int) -> float:
    """UTF-8 bytes that a token stands for in English conversations.

    Measured on instruction and preference data with byte-level BPE trained on other English text (4.6 MB), so
    lower than on its own; the last entry is that of published tokenizers. Other languages differ: the plan's note
    says the length that was assumed.
    """
    sizes = [math.log2(size) for size in _BYTES_PER_TOKEN]
    return float(np.interp(math.log2(vocab_size), sizes, list(_BYTES_PER_TOKEN.values())))


def planned_row(messages: Sequence[Mapping[str, Any]], vocab_size: int, longest: int) -> Row:
    """A row of zeros of the conversation's likely length; what the assistant says is supervised."""
    mask: list[bool] = [False]  # BOS
    for message in messages:
        n_tokens = math.ceil(len(message["content"].encode()) / bytes_per_token(vocab_size))
        answer = message["role"] == "assistant"
        mask += [False] * HEADER_TOKENS + [answer] * (n_tokens + 1) + [False] * (CLOSING_TOKENS - 1)
    scored = np.array(mask[:longest], dtype=bool)
    return Row(np.zeros(len(scored), dtype=np.int64), scored)
