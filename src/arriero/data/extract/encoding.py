"""The characters of a page's bytes: byte order mark, UTF-8 where it is valid, HTTP's word, the page's word, detection."""

from __future__ import annotations

import codecs
import re

from arriero.data.readers.sources import Problem
from arriero.native import pages

_META = re.compile(rb"<meta[^>]{0,256}?charset\s*=\s*[\"']?\s*([\w.:\-]+)", re.IGNORECASE)
_XML = re.compile(rb"\A\s{0,16}<\?xml[^>]{0,128}?encoding\s*=\s*[\"']([\w.:\-]+)", re.IGNORECASE)
_HEAD = 4096
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_LABELS = {
    "iso-8859-1": "cp1252", "latin1": "cp1252", "latin-1": "cp1252", "iso8859-1": "cp1252", "ascii": "cp1252",
    "us-ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "gb_2312-80": "gb18030",
    "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "windows-31j": "cp932",
    "ks_c_5601-1987": "cp949", "euc-kr": "cp949", "iso-8859-9": "cp1254", "tis-620": "cp874", "iso-8859-11": "cp874",
    "big5": "big5hkscs", "unicode": "utf-16-le", "utf-16": "utf-16-le", "x-user-defined": "cp1252",
}  # fmt: skip
"""What a name means on the web where Python takes it at its word (WHATWG, Encoding, 4.2)."""
_MOST_BROKEN = 0.02
"""More replacement characters than this share of a page mean that it is in no encoding we know."""


def page_in_utf8(data: bytes, charset: str = "") -> bytes | Problem:
    """As :func:`decode_page`, in UTF-8; a page that is in UTF-8 without a mark is given as it is."""
    marked = any(data.startswith(mark) for mark, _ in _BOMS)
    if not marked and _wide(data, _declared(data, charset)) is None and _is_utf8(data):
        return data
    text = decode_page(data, charset)
    return text if isinstance(text, Problem) else text.encode("utf-8", "replace")


def decode_page(data: bytes, charset: str = "") -> str | Problem:
    """The text of a page.

    ``charset``: what HTTP says. Valid UTF-8 beats a declaration, since hardly any other text is valid UTF-8 by chance.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _checked(data[len(mark) :].decode(name, "replace"))
    declared = _declared(data, charset)
    wide = _wide(data, declared)
    if wide is not None:
        return _checked(data.decode(wide, "replace"))
    text = _utf8(data)
    if text is not None:
        return text
    attempts = []
    for name in declared:
        if name != "utf-8":
            try:
                return data.decode(name)
            except UnicodeDecodeError:
                attempts.append(data.decode(name, "replace"))
    attempts.append(data.decode("utf-8", "replace"))
    detected = _codec(_detected(data))
    if detected and detected != "utf-8":
        attempts.append(data.decode(detected, "replace"))
    return _checked(min(attempts, key=lambda text: text.count("\ufffd")))


def _declared(data: bytes, charset: str) -> list[str]:
    """Python's names of the encodings that HTTP and the page itself declare."""
    return [name for name in (_codec(charset), _codec(_declared_inside(data))) if name]


def _wide(data: bytes, declared: list[str]) -> str | None:
    """A declared encoding whose bytes are valid UTF-8 by nature: UTF-16, and the 7-bit ones of Japan and China."""
    name = next((name for name in declared if name.startswith(("utf-16", "utf_16", "iso2022", "hz"))), None)
    return None if name and name.startswith("utf") and b"\0" not in data[:_HEAD] else name


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_utf8(data: bytes) -> bool:
    return data.isascii() or (pages.is_utf8(data) if pages.available() else _utf8(data) is not None)


def _checked(text: str) -> str | Problem:
    broken = text.count("\ufffd")
    if broken > _MOST_BROKEN * len(text):
        return Problem("extract.encoding", f"{broken} of {len(text)} characters are in no known encoding")
    return text


def _declared_inside(data: bytes) -> str:
    found = _XML.search(data, 0, _HEAD) or _META.search(data, 0, _HEAD)
    return found[1].decode("ascii", "replace") if found else ""


def _codec(name: str) -> str | None:
    """Python's name of an encoding, or None for one that is not known or does not give text."""
    name = name.strip().lower()
    try:
        found = codecs.lookup(_LABELS.get(name, name))
    except (LookupError, ValueError):
        return None
    return found.name if getattr(found, "_is_text_encoding", True) else None


def _detected(data: bytes) -> str:
    try:
        from resiliparse.parse.encoding import detect_encoding
    except ImportError:
        return "cp1252"
    found: str | None = detect_encoding(data[: 1 << 16])
    return found or "cp1252"
