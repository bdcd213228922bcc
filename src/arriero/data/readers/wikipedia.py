"""Articles of a MediaWiki dump: ``<lang>wiki-<date>-pages-articles[-multistream].xml``, plain, .bz2 or .gz.

Pages are found by their tags and never given to an XML parser, so entities that expand and external ones have no
power here; a dump that declares a document type is refused all the same, for real ones have none.
"""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from arriero.data.readers.bzip2_streams import stream_starts
from arriero.data.readers.wiki_license import Dump, dump_of, license_of
from arriero.data.records import Limits, Record, Refused
from arriero.errors import ArrieroError

CONTENT_TYPE = "text/x-wiki"
LLAMA1_LANGUAGES = (
    *("bg", "ca", "cs", "da", "de", "en", "es", "fr", "hr", "hu"),
    *("it", "nl", "pl", "pt", "ro", "ru", "sl", "sr", "sv", "uk"),
)
"""The 20 languages of Llama-1's Wikipedia (Touvron et al. 2023, section 2.1): Latin and Cyrillic scripts."""

_BLOCK = 1 << 20
_HEAD = 1 << 16
_BEGIN, _END = b"<page>", b"</page>"
_TITLE = re.compile(rb"<title>([^<]*)</title>")
_NAMESPACE = re.compile(rb"<ns>\s*(-?\d+)\s*</ns>")
_ID = re.compile(rb"<id>\s*(\d+)\s*</id>")
_TIMESTAMP = re.compile(rb"<timestamp>([^<]*)</timestamp>")
_MODEL = re.compile(rb"<model>([^<]*)</model>")
_TEXT = re.compile(rb"<text\b[^>]*?(?:/>|>([^<]*)</text>)")
_BASE = re.compile(rb"<base>(https?://[^<]{1,200}/)[^</]*</base>")
_LANGUAGE = re.compile(rb'<mediawiki\b[^>]*\bxml:lang="([A-Za-z-]{2,20})"')
_FILE_LANGUAGE = re.compile(r"^([a-z]{2,3}|simple)wiki[-_.]")
_ENTITY = re.compile(r"&(?:lt|gt|quot|amp|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});")
_NAMED = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&", "&apos;": "'"}
_LEAST_EXPANSION = 64 << 20
"""A small file may grow to this many bytes whatever it was."""


class _ExpansionError(Exception):
    pass


@dataclass
class _Border:
    """Where the content of a range ends; None: with the file, or not known yet."""

    content: int | None


_DAMAGE = (OSError, EOFError, ValueError, zlib.error, _ExpansionError)


class WikipediaReader:
    """Articles only: pages of namespace 0 that are no redirects and are wikitext; the others are passed over, as they
    hold no articles. ``languages``: codes of the dumps to read, or "llama1" for its 20; none: any."""

    def __init__(self, languages: Sequence[str] = ()) -> None:
        named = (languages,) if isinstance(languages, str) else tuple(languages)
        self._languages = LLAMA1_LANGUAGES if named == ("llama1",) else named

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        """Byte ranges of a plain file; of a .bz2 file ranges of whole streams, by the multistream index beside it
        (``...-multistream-index.txt`` or ``.txt.bz2``) or by looking for them; of .gz one range."""
        if path.suffix not in (".bz2", ".gz"):
            starts = list(range(0, max(1, path.stat().st_size), split_bytes))
        elif indexed := _stream_offsets(path):
            starts = [0]
            for offset in indexed:
                if offset - starts[-1] >= split_bytes:
                    starts.append(offset)
        else:
            starts = stream_starts(path, split_bytes) if path.suffix == ".bz2" else [0]
        return list(zip(starts, [*starts[1:], None], strict=True))

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        """Articles whose ``<page>`` begins in the range. ``offset`` is in the file where it is plain, else in the
        decompressed content from the stream at ``meta["stream"]`` on.

        Refused: ``read.dtd``, ``read.too_large``, ``read.truncated``, ``read.damaged``, ``read.no_title``.
        """
        head = _head(path)
        problem = _problem(head)
        if problem is not None:
            if start == 0:
                yield Refused(path.name, *problem, 0, len(head))
            return
        language, base = _site(path, head)
        if self._languages and language not in self._languages:
            return
        dump = dump_of(path.name, head, base)
        packed = path.suffix in (".bz2", ".gz")
        with path.open("rb") as file:
            border = _Border(end - start if end is not None and not packed else None)
            chunks = _chunks(file, path, start, end, limits.expansion, border)
            for found in _pages(chunks, border, limits):
                offset = found[1] if packed else start + found[1]
                if isinstance(found[0], str):
                    yield Refused(f"{path.name}:{offset}", found[0], found[2], offset, found[3], packed)
                else:
                    yield from _article(found[0], offset, start if packed else None, language, base, dump)


def _problem(head: bytes) -> tuple[str, str] | None:
    """Why a file is no dump that is read: (reason, detail)."""
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
        return "read.dtd", "it declares a document type; dumps have none"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "read.encoding", "it is UTF-16; dumps are UTF-8"
    return None


def _article(
    page: bytes, offset: int, stream: int | None, language: str | None, base: str | None, dump: Dump
) -> Iterator[Record | Refused]:
    namespace = _NAMESPACE.search(page)
    model = _MODEL.search(page)
    if (namespace and namespace[1] != b"0") or b"<redirect" in page[: page.find(b"<revision")]:
        return
    if model and model[1] != b"wikitext":
        return
    title, identifier = _TITLE.search(page), _ID.search(page)
    in_content = stream is not None
    if title is None:
        yield Refused(
            f"page at {offset}", "read.no_title", "a page without title", offset, len(page), in_content
        )
        return
    name = unescape(title[1].decode("utf-8", "replace"))
    text = _TEXT.search(page)
    time = _TIMESTAMP.search(page)
    edited = time[1].decode("ascii", "replace") if time else None
    license = license_of(dump, edited)
    yield Record(
        id=identifier[1].decode() if identifier else name,
        content=unescape(text[1].decode("utf-8", "replace")) if text and text[1] else "",
        content_type=CONTENT_TYPE,
        offset=offset,
        length=len(page),
        in_content=in_content,
        url=base + name.replace(" ", "_") if base else None,
        date=edited,
        license=license.license,
        license_evidence=license.evidence,
        lang=language,
        meta={"title": name, **({"stream": stream} if stream is not None else {})},
    )


def unescape(text: str) -> str:
    """XML's five entities and character references; others stay as they are."""
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(found: re.Match[str]) -> str:
    name = found[0]
    if name in _NAMED:
        return _NAMED[name]
    number = int(name[3:-1], 16) if name[2] == "x" else int(name[2:-1])
    valid = number in (9, 10) or 32 <= number < 0xD800 or 0xE000 <= number < 0x110000
    return chr(number) if valid else "�"


def _pages(
    chunks: Iterator[bytes], border: _Border, limits: Limits
) -> Iterator[tuple[bytes | str, int, str, int]]:
    """(page, offset, "", length), or (reason, offset, detail, length). Pages begin before the border."""
    held = bytearray()
    position = 0
    """Offset of the first byte held."""
    begin = -1
    while True:
        try:
            chunk = next(chunks, b"")
        except _DAMAGE as error:
            if begin < 0 and border.content is not None:
                return  # what lies behind the range is another's
            reason = _reason(error)
            yield reason, position, f"{type(error).__name__.strip('_')}: {error}", len(held)
            return
        held += chunk
        used, last = 0, border.content
        while True:
            if begin < 0:
                begin = held.find(_BEGIN, used)
                if begin < 0 or (last is not None and position + begin >= last):
                    begin = -1
                    used = max(used, len(held) - len(_BEGIN) + 1)
                    if last is not None and position + used >= last:
                        return
                    break
            stop = held.find(_END, max(begin, used))
            if stop < 0 and len(held) - begin <= limits.record_bytes:
                used = max(begin, used)
                break
            length = (stop + len(_END) if stop >= 0 else len(held)) - begin
            if length > limits.record_bytes:
                yield (
                    "read.too_large",
                    position + begin,
                    f"a page of over {limits.record_bytes} bytes",
                    length,
                )
            else:
                yield bytes(held[begin : begin + length]), position + begin, "", length
            used, begin = begin + length, -1
        if not chunk:
            if begin >= 0:
                yield "read.truncated", position + begin, "the file ends in a page", len(held) - begin
            return
        cut = begin if begin >= 0 else used
        del held[:cut]
        position += cut
        begin = 0 if begin >= 0 else -1


def _reason(error: Exception) -> str:
    if isinstance(error, _ExpansionError):
        return "read.expansion"
    return "read.truncated" if isinstance(error, EOFError) else "read.damaged"


def _chunks(
    file: BinaryIO, path: Path, start: int, end: int | None, expansion: int, border: _Border
) -> Iterator[bytes]:
    """Content of a range and of what follows, in blocks: a page may lie across the range's end. In a compressed file the
    content's border is set when it is reached.

    Raises:
        _ExpansionError: the content is more than ``expansion`` times as large as the file.
    """
    file.seek(start)
    if path.suffix not in (".gz", ".bz2"):
        yield from iter(lambda: file.read(_BLOCK), b"")
        return
    size = path.stat().st_size
    most = max(_LEAST_EXPANSION, expansion * ((size if end is None else end) - start))
    read, made = start, 0
    new = bz2.BZ2Decompressor if path.suffix == ".bz2" else _Gunzip
    unpacker: Any = None
    while packed := file.read(_BLOCK):
        read += len(packed)
        while packed or (unpacker is not None and not unpacker.needs_input):
            unpacker = unpacker or new()
            content = unpacker.decompress(packed, _BLOCK)
            packed = b""
            made += len(content)
            if made > most and border.content is None:
                raise _ExpansionError(f"the content is over {expansion} times as large as the file")
            if unpacker.eof:
                packed, unpacker = unpacker.unused_data, None
                if end is not None and border.content is None and read - len(packed) >= end:
                    border.content = made
            if content:
                yield content
    if unpacker is not None:
        raise EOFError("the compressed data have no end")


class _Gunzip:
    """zlib's decompressor with the manners of bz2's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self.eof, self.needs_input, self.unused_data = False, True, b""

    def decompress(self, packed: bytes, most: int) -> bytes:
        content = self._inner.decompress(self._inner.unconsumed_tail + packed, most)
        self.eof, self.unused_data = self._inner.eof, self._inner.unused_data
        self.needs_input = not self.eof and not self._inner.unconsumed_tail and len(content) < most
        return content


def _stream_offsets(path: Path) -> list[int]:
    """Where bz2 streams begin, by the multistream index beside the dump; empty without one, or where it does not fit.

    Its lines are ``offset:page id:title``, in order.
    """
    stem = path.name.removesuffix(".bz2").removesuffix(".xml")
    if "multistream" not in stem:
        return []
    index = stem.replace("-multistream", "-multistream-index", 1) + ".txt"
    for candidate in (path.with_name(index + ".bz2"), path.with_name(index)):
        if candidate.exists():
            return _read_index(candidate, path.stat().st_size)
    return []


def _read_index(index: Path, size: int) -> list[int]:
    offsets: list[int] = []
    try:
        with bz2.open(index) if index.suffix == ".bz2" else index.open("rb") as lines:
            for line in lines:
                digits = line[:20].partition(b":")[0]
                offset = int(digits) if digits.isdigit() else -1
                if not (offsets[-1] if offsets else 0) <= offset < size:
                    return []
                if not offsets or offset > offsets[-1]:
                    offsets.append(offset)
    except _DAMAGE as error:
        raise ArrieroError(f"{index} is damaged: {error}; without it the dump is read in one piece") from None
    return offsets


def _head(path: Path) -> bytes:
    """The first bytes of the content, to the first page; empty where they cannot be read (reading says why)."""
    with path.open("rb") as file:
        try:
            head = next(_chunks(file, path, 0, None, Limits().expansion, _Border(None)), b"")[:_HEAD]
        except _DAMAGE:
            return b""
    return head.partition(_BEGIN)[0]


def _site(path: Path, head: bytes) -> tuple[str | None, str | None]:
    """(language, address that titles follow)."""
    named, declared, base = _FILE_LANGUAGE.match(path.name), _LANGUAGE.search(head), _BASE.search(head)
    language = declared[1].decode() if declared else named[1] if named else None
    return language, base[1].decode("ascii", "replace") if base else None
