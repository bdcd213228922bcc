"""Rows of conversations that cannot be tokenised yet: as long as they are likely to become."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arriero.training.objectives.sft import Row

TEMPLATE_TOKENS = 5
"""Tokens that a ChatML message takes beside its content: the header's three, the end of turn, the line break."""
SPREAD = 0.15
"""How far the mean of a real tokenizer's bytes a token lies from :func:`bytes_per_token`, in English text."""


def bytes_per_token(vocab_size: int) -> float:
    """UTF-8 bytes that a token of a byte-level BPE vocabulary stands for in English text.

    A line through tokenizers trained on public English text: 3.4 bytes with 4,096 pieces, 0.3 more with every
    doubling, and 4.6 at most.
    """
    return min(4.6, max(1.0, 3.4 + 0.3 * (math.log2(vocab_size) - 12)))


def planned_row(messages: Sequence[Mapping[str, Any]], vocab_size: int, longest: int) -> Row:
    """A row of zeros of the conversation's likely length; what the assistant says is supervised."""
    mask: list[bool] = [False]  # BOS
    for message in messages:
        n_tokens = math.ceil(len(message["content"].encode()) / bytes_per_token(vocab_size))
        answer = message["role"] == "assistant"
        mask += [False] * (TEMPLATE_TOKENS - 2) + [answer] * (n_tokens + 1) + [False]
    scored = np.array(mask[:longest], dtype=bool)
    return Row(np.zeros(len(scored), dtype=np.int64), scored)
