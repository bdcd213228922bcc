"""E-mail addresses and IP addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from arriero.data.pii.scan import Found, words_before

_LOCAL = re.compile(r"[A-Za-z0-9\u00c0-\u024f._%+'&-]{1,64}$")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9\u00c0-\u024f-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9_-]|\.[A-Za-z0-9])"
)
_OBFUSCATED = re.compile(
    r"\b[A-Za-z0-9._%+-]{1,64} ?[\[(]at[\])] ?[A-Za-z0-9-]{1,63}(?: ?(?:\.|[\[(]dot[\])]) ?[A-Za-z0-9-]{1,63}){1,4}\b",
    re.IGNORECASE,
)
_FILE_ENDINGS = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "gif",
        "svg",
        "webp",
        "css",
        "js",
        "json",
        "html",
        "htm",
        "txt",
        "pdf",
        "ico",
        "map",
        "xml",
    ]
)
_IPV4 = re.compile(
    r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
)
_NO_ADDRESS = re.compile(
    r"(?:\bv|version|ver\.|release|section|sect?\.|chapter|abschnitt|kapitel|secci[oó]n|sezione|se[cç][aã]o|cap[ií]tulo|chapitre|раздел|глава|sekcja|rozdzia[lł]|第|节|節|"
    r"figure|fig\.|table|clause|paragraph|§|update|build|firmware|"
    r"rev(?:ision)?\.?|kernel|driver|item|step|upgraded to|since)\W{0,3}$"
)
_COLON = re.compile(r":(?=[0-9a-fA-F:])")
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF:")


def emails(text: str) -> Iterator[Found]:
    """Addresses with a domain name."""
    place = text.find("@")
    while place >= 0:
        local = _LOCAL.search(text, max(0, place - 65), place) if place else None
        domain = _DOMAIN.match(text, place + 1) if local else None
        if local and domain and _is_address(local[0], domain[0]):
            stripped = local[0].lstrip(".'&-+%")
            yield Found(place - len(stripped), domain.end(), "email")
            place = domain.end() - 1
        place = text.find("@", place + 1)
    if "at]" in text or "at)" in text or "AT]" in text or "AT)" in text:
        for found in _OBFUSCATED.finditer(text):
            yield Found(found.start(), found.end(), "email")


def _is_address(local: str, domain: str) -> bool:
    local = local.lstrip(".'&-+%")
    if not local or local.endswith(".") or ".." in local or local == "git":
        return False
    return domain.lower().rpartition(".")[2] not in _FILE_ENDINGS


def ipv4(text: str, start: int, end: int, private: bool) -> Iterator[Found]:
    """Addresses in a run of digits; versions and numbers of sections are none."""
    for found in _IPV4.finditer(text, start, end):
        before = text[found.start() - 1 : found.start()]
        after = text[found.end() : found.end() + 2]
        if before and (before.isalnum() or before in "._-"):
            continue
        if after[:1].isalnum() or after[:1] in ("_", "-") or (after[:1] == "." and after[1:].isdigit()):
            continue
        if _NO_ADDRESS.search(words_before(text, found.start())) or _is_heading(
            text, found.start(), found[0]
        ):
            continue
        if private or _is_public(found[0]):
            yield Found(found.start(), found.end(), "ip")


def _is_heading(text: str, start: int, address: str) -> bool:
    """``\\n12.1.1.2. Setting up``: small numbers that begin a line count sections."""
    begins_line = start == 0 or text[start - 1] in "\n\r\t" or text[max(0, start - 3) : start] == "\n  "
    return begins_line and all(int(part) < 40 for part in address.split("."))


def ipv6(text: str, private: bool) -> Iterator[Found]:
    """Addresses of eight groups, or shortened ones that are longer than a time or a name in C++ could be."""
    last = 0
    for colon in _COLON.finditer(text):
        if colon.start() < last:
            continue
        start, end = colon.start(), colon.end()
        while start > max(last, colon.start() - 5) and text[start - 1] in _HEXADECIMAL:
            start -= 1
        while end < min(len(text), colon.start() + 46) and text[end] in _HEXADECIMAL:
            end += 1
        last = end
        spelled = text[start:end]
        if spelled.endswith(":") and not spelled.endswith("::"):
            spelled = spelled[:-1]
        end = start + len(spelled)
        around = text[start - 1 : start] + text[end : end + 1]
        if spelled.count(":") < 2 or any(part.isalnum() or part == "_" for part in around):
            continue
        if _is_ipv6(spelled) and (private or _is_public(spelled)):
            yield Found(start, end, "ip")


def _is_ipv6(text: str) -> bool:
    groups = [group for group in text.split(":") if group]
    if (len(groups) < 3 and text != "::1") or ("::" in text and not any(c.isdigit() for c in text)):
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False
