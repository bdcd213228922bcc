"""The HTTP response inside a web archive's record: status, headers and body, with what may be wrong with each."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from arriero.data.readers.sources import Problem

_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n]*)?\r?\n")
_HEAD_BYTES = 1 << 18


@dataclass(frozen=True)
class Response:
    """A response: its status, its headers (names in lower case), its body as it was stored."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def parse_headers(lines: bytes) -> dict[str, str]:
    """``Name: value`` lines; names in lower case, the first of equal names counts, folded lines are joined."""
    headers: dict[str, str] = {}
    last = ""
    for raw in _LINE_END.split(lines):
        line = raw.decode("utf-8", "replace")
        if line[:1] in (" ", "\t") and last:
            headers[last] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        if colon:
            last = name.strip().lower()
            headers.setdefault(last, value.strip())
    return headers


def head_end(data: bytes, start: int = 0, most: int = _HEAD_BYTES) -> tuple[int, int] | None:
    """Where the headers that begin at ``start`` end, and where the content begins; None: not within ``most`` bytes."""
    found = _HEAD_END.search(data, start, start + most)
    return None if found is None else found.span()


def parse_response(block: bytes) -> Response | Problem:
    """The response that a record's block holds."""
    if not block.startswith(b"HTTP/"):
        return Problem("read.http", "the block does not begin with a status line")
    ends = head_end(block)
    if ends is None:
        return Problem("read.http", "the HTTP headers have no end")
    line, _, headers = block[: ends[0]].partition(b"\n")
    parts = line.split(None, 2)
    if len(parts) < 2 or not parts[1].isdigit() or len(parts[1]) != 3:
        return Problem("read.http", f"no status in {line[:80].decode('latin-1')!r}")
    return Response(int(parts[1]), parse_headers(headers), block[ends[1] :])


def decoded_body(response: Response, most: int) -> bytes | Problem:
    """The body without its transfer and content encoding, at most ``most`` bytes.

    Crawlers often store the decoded body under the old headers: a body that does not begin as its header says is
    taken as it is.
    """
    body: bytes | Problem = response.body
    if "chunked" in response.headers.get("transfer-encoding", "").lower() and _CHUNK.match(response.body):
        body = dechunked(response.body)
    for encoding in reversed(response.headers.get("content-encoding", "").lower().replace(",", " ").split()):
        if isinstance(body, Problem):
            return body
        body = _content_decoded(body, encoding, most)
    return body


def dechunked(body: bytes) -> bytes | Problem:
    """The body of chunks (RFC 9112, 7.1) put together."""
    parts: list[bytes] = []
    position = 0
    while True:
        size = _CHUNK.match(body, position)
        if size is None:
            return Problem("read.chunked", f"no chunk's size at byte {position} of {len(body)}")
        count = int(size[1], 16)
        if count == 0:
            return b"".join(parts)
        start, position = size.end(), size.end() + count
        if position > len(body):
            return Problem("read.chunked", f"a chunk of {count} bytes at byte {start} of {len(body)}")
        parts.append(body[start:position])
        line_end = _LINE_END.match(body, position)
        if line_end is None:
            return Problem("read.chunked", f"no line end after the chunk that stops at byte {position}")
        position = line_end.end()


def _content_decoded(body: bytes, encoding: str, most: int) -> bytes | Problem:
    if encoding in ("gzip", "x-gzip"):
        return _inflated(body, 31, most) if body[:2] == b"\x1f\x8b" else body
    if encoding == "deflate":
        zlib_head = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
        if not zlib_head and body[:64].lstrip()[:1] == b"<":
            return body  # stored decoded
        return _inflated(body, 15 if zlib_head else -15, most)
    if encoding in ("br", "zstd", "compress", "x-compress"):
        if body[:64].lstrip()[:1] == b"<":
            return body
        return Problem("read.content_encoding", f"the content encoding {encoding} is not read")
    return body  # identity, and names that mean nothing (utf-8, none)


def _inflated(body: bytes, kind: int, most: int) -> bytes | Problem:
    member = zlib.decompressobj(kind)
    try:
        out = member.decompress(body, most + 1)
    except zlib.error as error:
        return Problem("read.content_encoding", f"the body cannot be decompressed: {error}")
    if len(out) > most:
        return Problem("read.too_large", f"the body has more than {most} bytes when decompressed")
    if not member.eof:
        return Problem("read.content_encoding", "the compressed body stops in the middle")
    return out
