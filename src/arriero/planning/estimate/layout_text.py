"""A layout in words, as `data 128 tensor 8 pipeline 16`, and the number with a suffix that tokens are given in."""

from __future__ import annotations

import re

from arriero.cost.cut import Cut
from arriero.errors import ArrieroError, did_you_mean

WORDS = ("data", "tensor", "context", "pipeline")
_PART = re.compile(r"([a-zA-Z_]+)[\s=:]*(\d*)")
_SUFFIX = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_NUMBER = re.compile(r"(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*([kKmMbBT]?)")


def parse_layout(text: str, devices: int) -> dict[str, int]:
    """Sizes by word of a layout over ``devices`` devices; what ``data`` does not say is what is left.

    Words and numbers may be joined by blanks, commas, ``x``, ``=`` or ``:``, as in a recipe's block ``parallel``.

    Raises:
        ArrieroError: an unknown word, a size that is missing or 0, or a product that is not ``devices``.
    """
    given: dict[str, int] = {}
    rest = re.sub(r"[{},×]|\bx\b", " ", text)
    for word, size in _PART.findall(rest):
        if word not in WORDS:
            raise ArrieroError(f"--parallel: unknown word '{word}'{did_you_mean(word, WORDS)}")
        if not size or int(size) < 1 or word in given:
            what = "is given twice" if word in given else "needs a size of 1 or more"
            raise ArrieroError(f"--parallel: '{word}' {what}, as in 'data 128 tensor 8 pipeline 16'")
        given[word] = int(size)
    left = _PART.sub("", rest).strip()
    if left or not given:
        raise ArrieroError(
            f"--parallel: cannot read '{left or text}'; write it as 'data 128 tensor 8 pipeline 16'"
        )
    return _filled(given, devices, text)


def _filled(given: dict[str, int], devices: int, text: str) -> dict[str, int]:
    product = 1
    for size in given.values():
        product *= size
    if "data" not in given:
        given["data"], over = divmod(devices, product)
        if over or not given["data"]:
            raise ArrieroError(
                f"--parallel '{text}': {product} does not divide the {devices} devices of --count"
            )
    elif product != devices:
        raise ArrieroError(f"--parallel '{text}' is for {product} devices; --count says {devices}")
    return {word: given.get(word, 1) for word in WORDS}


def layout_words(cut: Cut) -> str:
    """`data 128 × tensor 8 × pipeline 16`, sizes of 1 left out; "one device" where all are."""
    sizes = [(word, int(getattr(cut, word))) for word in WORDS]
    parts = [f"{word} {size}" for word, size in sizes if size > 1]
    return " × ".join(parts) or "one device"


def parse_count(text: str, what: str) -> float:
    """A number such as `15e12`, `15T`, `300B`, `4.2M`, `512k` (B is a billion, T a million million).

    Raises:
        ArrieroError: anything else, or not above 0.
    """
    match = _NUMBER.fullmatch(text.strip().replace("_", "").replace(",", ""))
    value = float(match[1]) * _SUFFIX[match[2].lower()] if match else 0.0
    if not 0 < value < float("inf"):
        raise ArrieroError(f"{what}: '{text}' should be a number above 0, such as 15e12, 15T, 300B or 512k")
    return value
