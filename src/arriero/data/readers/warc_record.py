"""One record of a web archive (WARC 1.0 and 1.1, ISO 28500): its headers, its block, and the page in it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from arriero.data.readers.http import (
    Response,
    dechunked,
    decoded_body,
    head_end,
    parse_headers,
    parse_response,
)
from arriero.data.readers.sources import Problem
from arriero.data.records import Limits

VERSION = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n")
HEAD_BYTES = 1 << 18
_DOCUMENTS = ("response", "resource", "conversion")
_DIGESTS = {"sha1": hashlib.sha1, "sha-1": hashlib.sha1, "md5": hashlib.md5, "sha256": hashlib.sha256, "sha-256": hashlib.sha256}  # fmt: skip


class Head(NamedTuple):
    """A record's headers (names in lower case), the byte at which its block begins, and the block's length."""

    headers: Mapping[str, str]
    block: int
    length: int


@dataclass(frozen=True)
class Page:
    """What a record holds for curation."""

    content: bytes
    content_type: str
    url: str | None
    date: str | None
    meta: Mapping[str, str]


def parse_head(data: bytes) -> Head | Problem:
    """The headers at the beginning of ``data``."""
    version = VERSION.match(data)
    if version is None:
        if len(data) < 32 and b"WARC/1.".startswith(data[:7]):
            return Problem("read.truncated", "the record's first line has no end")
        return Problem("read.garbage", f"no record begins here but {data[:24]!r}")
    ends = head_end(data, version.end(), HEAD_BYTES)
    if ends is None:
        complete = len(data) >= HEAD_BYTES
        return Problem("read.header" if complete else "read.truncated", "the record's headers have no end")
    lines = data[version.end() : ends[0]]
    if b"\0" in lines:
        return Problem("read.header", "the record's headers hold a NUL")
    headers = parse_headers(lines)
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        return Problem("read.header", f"Content-Length is {length[:40]!r}" if length else "no Content-Length")
    if "warc-type" not in headers:
        return Problem("read.header", "no WARC-Type")
    return Head(headers, ends[1], int(length))


def record_id(headers: Mapping[str, str]) -> str:
    """``WARC-Record-ID`` without its brackets and scheme; empty where there is none."""
    return headers.get("warc-record-id", "").strip("<> ").removeprefix("urn:uuid:")


def record_url(headers: Mapping[str, str]) -> str | None:
    """``WARC-Target-URI``; some writers put it in brackets."""
    return headers.get("warc-target-uri", "").strip("<> ") or None


def is_document(headers: Mapping[str, str]) -> bool:
    """False for what surrounds documents: requests, metadata, revisits, information on the crawl (wget stores its log
    as a resource ``metadata://...``)."""
    about_crawl = (record_url(headers) or "").startswith("metadata:")
    return headers["warc-type"].lower() in _DOCUMENTS and not about_crawl


def parse_page(
    headers: Mapping[str, str], block: bytes, limits: Limits, check_digests: bool
) -> Page | Problem:
    """The page of a document's record (see :func:`is_document`)."""
    truncated = headers.get("warc-truncated", "")
    digests = check_digests and not truncated  # a crawler that cut a page short may have hashed all of it
    if digests and _differs(headers.get("warc-block-digest"), block):
        return Problem("read.digest", "the block is not the one that WARC-Block-Digest names")
    kind = headers.get("content-type", "").lower()
    meta = {"truncated": truncated} if truncated else {}
    if "warc-identified-content-language" in headers:
        meta["languages"] = headers["warc-identified-content-language"]
    if headers["warc-type"].lower() == "response" and (
        kind.startswith("application/http") or block[:5] == b"HTTP/"
    ):
        response = parse_response(block)
        if isinstance(response, Problem):
            return response
        if digests and _payload_differs(headers.get("warc-payload-digest"), response, limits):
            return Problem("read.digest", "the body is not the one that WARC-Payload-Digest names")
        if response.status not in (200, 203):
            return Problem("read.http_status", f"status {response.status}")
        body = decoded_body(response, limits.record_bytes)
        if isinstance(body, Problem):
            return body
        kind, content = response.headers.get("content-type", ""), body
    else:
        content = block
    bare, charset = _content_type(kind)
    if charset:
        meta["charset"] = charset
    bare = bare or headers.get("warc-identified-payload-type", "").lower() or _sniffed(content)
    return Page(content, bare, record_url(headers), headers.get("warc-date"), meta)


_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:\-]+)", re.IGNORECASE)


def _content_type(value: str) -> tuple[str, str]:
    found = _CHARSET.search(value)
    return value.split(";")[0].strip().lower(), found[1].lower() if found else ""


def _sniffed(content: bytes) -> str:
    head = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")) or b"<head" in head or b"<body" in head:
        return "text/html"
    return "application/octet-stream"


def _differs(named: str | None, data: bytes) -> bool:
    """True where ``algorithm:digest`` (base 32 or hexadecimal) does not belong to ``data``; unknown forms say nothing."""
    algorithm, _, value = (named or "").partition(":")
    new = _DIGESTS.get(algorithm.strip().lower())
    if new is None:
        return False
    digest = new(data, usedforsecurity=False).digest()
    value = value.strip()
    try:
        if len(value) == 2 * len(digest):
            return bytes.fromhex(value) != digest
        return base64.b32decode(value.upper() + "=" * (-len(value) % 8)) != digest
    except (ValueError, binascii.Error):
        return True


def _payload_differs(named: str | None, response: Response, limits: Limits) -> bool:
    """Writers hash the body as it was sent, without its chunks, or wholly decoded."""
    if not named or not _differs(named, response.body):
        return False
    variants = []
    if "chunked" in response.headers.get("transfer-encoding", "").lower():
        variants.append(dechunked(response.body))
    variants.append(decoded_body(response, limits.record_bytes))
    return all(isinstance(variant, Problem) or _differs(named, variant) for variant in variants)
