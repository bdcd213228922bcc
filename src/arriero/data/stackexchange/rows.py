"""Rows of Posts.xml, without an XML library: nothing is ever expanded, so there is nothing to blow up.

A dump is one flat list of ``<row Name="value" .../>``. In well-formed XML a "<" cannot stand inside a value, so
"<row" always begins a row and the next "<" ends it: a file can be cut anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 1 << 20
PROLOG_BYTES = 1 << 16
"""What precedes the first row must be shorter than this."""

_ROW = re.compile(rb"<row[\s/]")
_ATTRIBUTE = re.compile(r"""([A-Za-z_][\w.:-]*)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_REFERENCE = re.compile(r"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));")
_UNKNOWN = re.compile(r"&(?!#\d{1,7};|#x[0-9a-fA-F]{1,6};|(?:amp|lt|gt|quot|apos);)")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


@dataclass(frozen=True)
class Row:
    """The bytes of one row and where they begin. ``problem``: a reason why they are not to be used, else empty."""

    offset: int
    length: int
    data: bytes
    problem: str = ""
    detail: str = ""


def prolog_problem(head: bytes) -> tuple[str, str] | None:
    """(reason, detail) when the beginning of a file forbids to read it: a DTD, another encoding, no posts.

    ``head``: the first :data:`PROLOG_BYTES` of the file.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00<", b"<\x00")):
        return "read.encoding", "the dump is UTF-16; UTF-8 is expected"
    found = _ROW.search(head)
    prolog = head[: found.start()] if found else head
    if b"<!DOCTYPE" in prolog or b"<!ENTITY" in prolog:
        return "read.xml_doctype", "a document type definition stands before the posts; dumps have none"
    if b"<posts" not in prolog:
        return "read.not_posts", "the rows do not stand in <posts>: another file of the dump, or none"
    return None


def scan(file: BinaryIO, start: int, end: int | None, most: int) -> Iterator[Row]:
    """Rows that begin in bytes ``start`` to ``end``, in order; longer ones than ``most`` bytes are passed over.

    Memory: one block and one row of at most ``most`` bytes.
    """
    file.seek(start)
    window = _Window(file, start, most)
    while window.to_row():
        if end is not None and window.offset >= end:
            return
        yield window.take()


class _Window:
    """A part of the file in memory, and a place in it."""

    def __init__(self, file: BinaryIO, offset: int, most: int) -> None:
        self._file, self._most = file, most
        self._buffer, self._at, self._base = b"", 0, offset

    @property
    def offset(self) -> int:
        return self._base + self._at

    def to_row(self) -> bool:
        """Go to where the next row begins; False: there is none."""
        while True:
            found = _ROW.search(self._buffer, self._at)
            if found:
                self._at = found.start()
                return True
            self._at = max(self._at, len(self._buffer) - 4)
            if not self._more():
                return False

    def take(self) -> Row:
        """The row that begins here, without what follows its end."""
        first, searched = self.offset, 4
        while True:
            cut = self._buffer.find(b"<", self._at + searched)
            if cut >= 0 or len(self._buffer) - self._at > self._most:
                break
            searched = len(self._buffer) - self._at
            if not self._more():
                break
        is_too_long = (cut if cut >= 0 else len(self._buffer)) - self._at > self._most
        if is_too_long:
            self._skip(cut)
            length = self.offset - first
            return Row(first, length, b"", "read.record_bytes", f"a row of {length:,} bytes")
        data = self._buffer[self._at : cut] if cut >= 0 else self._buffer[self._at :]
        self._at += len(data)
        if data.rstrip().endswith(b">"):
            return Row(first, len(data), data)
        detail = "the file ends inside a row" if cut < 0 else 'a row has no ">" before the next "<"'
        return Row(first, len(data), b"", "read.truncated" if cut < 0 else "read.malformed", detail)

    def _skip(self, cut: int) -> None:
        """Go to the next "<" without keeping what precedes it."""
        while cut < 0:
            self._at = len(self._buffer)
            if not self._more():
                return
            cut = self._buffer.find(b"<")
        self._at = cut

    def _more(self) -> bool:
        """Read a block behind what is not yet used; False at the end of the file."""
        block = self._file.read(BLOCK)
        self._base += self._at
        self._buffer, self._at = self._buffer[self._at :] + block, 0
        return bool(block)


def attributes(row: Row) -> dict[str, str] | tuple[str, str]:
    """The row's values by name, with XML's five named references and its numbers resolved; or (reason, detail)."""
    try:
        text = row.data.decode("utf-8")
    except UnicodeDecodeError as error:
        return "read.encoding", f"byte {row.offset + error.start} is not UTF-8"
    values: dict[str, str] = {name: double or single for name, double, single in _ATTRIBUTE.findall(text)}
    for name, value in values.items():
        if "&" in value:
            if _UNKNOWN.search(value):
                return "read.xml_entity", f"{name} refers to an entity that XML does not define"
            values[name] = unescape(value)
    return values


def unescape(value: str) -> str:
    """Character references of XML as characters; those that name no character become U+FFFD."""
    value = value.replace("&#xA;", "\n").replace("&#xD;", "\r").replace("&#x9;", "\t")
    if "&#" in value:
        return _REFERENCE.sub(_character, value)
    value = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&apos;", "'")
    return value.replace("&amp;", "&")


def _character(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return _NAMED[name]
    code = int(decimal) if decimal else int(hexadecimal, 16)
    is_character = 0 < code < 0x110000 and not 0xD800 <= code < 0xE000
    return chr(code) if is_character else "\ufffd"
