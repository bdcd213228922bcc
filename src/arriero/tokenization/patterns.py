"""Where byte-level tokenizers cut text before merging: the published patterns, by name."""

from __future__ import annotations

_O200K_WORD = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _cl100k(digits: str) -> str:
    return (
        rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )


SPLIT_PATTERNS: dict[str, tuple[str, ...]] = {
    "gpt2": (_GPT2,),
    "llama3": (_cl100k(r"\p{N}{1,3}"),),
    "cl100k": (_cl100k(r"\p{N}{1,3}"),),
    "qwen": (_cl100k(r"\p{N}"),),
    "o200k": (
        _O200K_WORD + rf"*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]+{_ENDINGS}?|"
        + _O200K_WORD + rf"+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{_ENDINGS}?|"
        + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "smollm": (r"\p{N}", _GPT2),
}  # fmt: skip
"""Name -> patterns applied one after the other: GPT-2 (r50k and p50k too), Llama 3 (the same as cl100k, digits in
groups of at most three), Qwen (digits one by one), o200k (case-aware), SmolLM and StarCoder (GPT-2 after digits)."""
