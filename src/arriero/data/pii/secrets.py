"""Keys and secrets in source code: by their issuers' prefixes, or by the name that they are given."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from arriero.data.pii.scan import Found

_ISSUED = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_\-]{20,64}"
    r"|xox[abprs]-[A-Za-z0-9\-]{10,200}|AIza[0-9A-Za-z_\-]{35}|[sr]k_(?:live|test)_[0-9A-Za-z]{16,128}|hf_[A-Za-z]{30,40}"
    r"|sk-(?:ant-|proj-)?[A-Za-z0-9_\-]{20,200}|npm_[A-Za-z0-9]{36}|SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}|pypi-[A-Za-z0-9_\-]{50,250}"
    r"|eyJ[A-Za-z0-9_\-]{10,2000}\.eyJ[A-Za-z0-9_\-]{10,4000}\.[A-Za-z0-9_\-]{10,1000})(?![A-Za-z0-9])"
)
_HINTS = (
    "AKIA",
    "ASIA",
    "gh",
    "glpat",
    "xox",
    "AIza",
    "k_live",
    "k_test",
    "hf_",
    "sk-",
    "npm_",
    "SG.",
    "pypi-",
    "eyJ",
)
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z]{1,12} ){0,3}PRIVATE KEY-----")
_LONGEST_KEY = 20_000
_NAMED = re.compile(
    r"(?:api_?key|secret|token|passw(?:or)?d|pwd|auth|credential|private_?key)[\w\-]{0,20}[\"']?\s{0,3}(?::|=|=>|:=)\s{0,3}"
    r"(?P<quote>[\"'])(?P<value>[^\"'\s]{12,200})(?P=quote)",
    re.IGNORECASE,
)


def secrets(text: str) -> Iterator[Found]:
    """Keys that issuers mark, private keys, and random strings assigned to names such as ``api_key``."""
    if any(hint in text for hint in _HINTS):
        for found in _ISSUED.finditer(text):
            yield Found(found.start(), found.end(), "secret")
    if "PRIVATE KEY-----" in text:
        yield from _private_keys(text)
    for found in _NAMED.finditer(text):
        if _is_random(found["value"]):
            yield Found(found.start("value"), found.end("value"), "secret")


def _private_keys(text: str) -> Iterator[Found]:
    for found in _PRIVATE_KEY.finditer(text):
        end = text.find("-----END ", found.end(), found.end() + _LONGEST_KEY)
        close = text.find("-----", end + 9, end + 60) if end >= 0 else -1
        if close >= 0 and "-----BEGIN" not in text[found.end() : end]:
            yield Found(found.start(), close + 5, "secret")


def _is_random(text: str) -> bool:
    """Letters and digits mixed, at 3 bits a character or more: no word, path or placeholder."""
    if not (any(c.isdigit() for c in text) and any(c.isalpha() for c in text)) or text[:2] in (
        "${",
        "{{",
        "<%",
    ):
        return False
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values()) >= 3.0
