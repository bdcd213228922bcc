"""Made-up text for probes: what a stage's speed is measured on when there is no corpus yet."""

from __future__ import annotations

import random


def sample_texts(n_bytes: int, words_per_text: int = 300) -> list[str]:
    """Texts of ASCII words with English-like lengths and frequencies (Zipf), the same every time."""
    rng = random.Random(0)
    letters, letter_weights = "etaoinshrdlcumwfgypbvk", range(22, 0, -1)
    words = ["".join(rng.choices(letters, letter_weights, k=rng.randint(1, 10))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    texts: list[str] = []
    made = 0
    while made < n_bytes:
        drawn = rng.choices(words, weights, k=words_per_text)
        sentences = [" ".join(drawn[i : i + 15]).capitalize() + "." for i in range(0, len(drawn), 15)]
        texts.append("\n".join(sentences))
        made += len(texts[-1])
    return texts
