"""Web archives: WARC files with pages, WET files with their text; plain, .gz by records or as a whole, .zst.

Every response, resource and conversion record is one record here, or one refusal with its reason; what surrounds
documents (requests, metadata, revisits) is passed over. Damage costs the records it lies in: reading goes on at the
next record's beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arriero.data.readers.sources import (
    GZIP_MAGIC,
    ZSTD_MAGIC,
    FileSource,
    Problem,
    StreamSource,
    content_blocks,
    refusal,
)
from arriero.data.readers.warc_chain import (
    Layout,
    MemberLayout,
    PlainLayout,
    Unit,
    is_one_stream,
    next_candidate,
    waste,
)
from arriero.data.readers.warc_record import Page, is_document, parse_head, parse_page, record_id, record_url
from arriero.data.records import Limits, Record, Refused


class WarcReader:
    """Reads .warc, .warc.gz, .warc.zst and the same with .wet.

    ``check_digests``: refuse records whose content is not what their own digests say.
    """

    def __init__(self, check_digests: bool = True) -> None:
        self._check = check_digests

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        with FileSource(path) as source:
            if source.size <= split_bytes or isinstance(_stream(source, Limits()), StreamSource):
                return [(0, None)]
            starts = list(range(0, source.size, split_bytes))
        return list(zip(starts, [*starts[1:], None], strict=True))

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        with FileSource(path) as source:
            stream = _stream(source, limits)
            if stream is not None and start > 0:
                return
            layout: Layout
            if stream is not None:
                layout, end = PlainLayout(stream, limits), None
            else:
                layout = _layout(source, limits)
            packed = isinstance(layout, MemberLayout)
            position = layout.join(start)
            for at, item in _walk(layout, stream, position, end, limits):
                where = (f"{path.name}:{at}", at, item.end - at, stream is not None)
                if item.problem is not None:
                    yield refusal(where[0], item.problem, where[1:])
                else:
                    yield from self._records(item.data, where, packed, limits)

    def _records(
        self, data: bytes, where: tuple[str, int, int, bool], packed: bool, limits: Limits
    ) -> Iterator[Record | Refused]:
        """The records of a unit: one, or for a careless writer's gzip member several."""
        start = 0
        while start < len(data):
            rest = data[start:] if start else data
            unit = _in_member(rest, limits) if packed else Unit(len(rest), rest)
            if unit.problem is not None:
                yield refusal(where[0], unit.problem, where[1:])
                return
            found = self._record(unit.data, where, start, limits)
            if found is not None:
                yield found
            start += unit.end

    def _record(
        self, data: bytes, where: tuple[str, int, int, bool], start: int, limits: Limits
    ) -> Record | Refused | None:
        head = parse_head(data)
        if isinstance(head, Problem):
            return refusal(where[0], head, where[1:])
        if not is_document(head.headers):
            return None
        id = record_id(head.headers) or (f"{where[0]}+{start}" if start else where[0])
        page = parse_page(head.headers, data[head.block : head.block + head.length], limits, self._check)
        if isinstance(page, Page):
            meta = {**page.meta, "in_member": start} if start else page.meta
            return Record(
                id, page.content, page.content_type, *where[1:], url=page.url, date=page.date, meta=meta
            )
        return refusal(id, page, where[1:], record_url(head.headers))


def _stream(source: FileSource, limits: Limits) -> StreamSource | None:
    """The content of a file that was compressed as a whole, else None."""
    head = source.read(0, 4)
    if head == ZSTD_MAGIC:
        return StreamSource(content_blocks(source, limits))
    if head[:3] == GZIP_MAGIC:
        content = StreamSource(content_blocks(source, limits))
        if is_one_stream(source, content, limits):
            return content
    return None


def _layout(source: FileSource, limits: Limits) -> Layout:
    """Members or plain records, by what comes first in the file, whose first bytes may be damaged."""
    members, plain = MemberLayout(source, limits), PlainLayout(source, limits)
    head = source.read(0, 5)
    if b"WARC/".startswith(head):
        return plain
    if GZIP_MAGIC.startswith(head[:3]):
        return members
    member, record = next_candidate(members, 0), next_candidate(plain, 0)
    return members if member is not None and (record is None or member < record) else plain


def _in_member(data: bytes, limits: Limits) -> Unit:
    """The record at the beginning of a gzip member's content, which is whole."""
    unit = PlainLayout(StreamSource(iter([data])), limits).unit(0)
    if unit.problem is not None and unit.problem.reason == "read.truncated":
        return unit._replace(problem=Problem("read.length", unit.problem.detail))
    return unit


def _walk(
    layout: Layout, stream: StreamSource | None, position: int | None, end: int | None, limits: Limits
) -> Iterator[tuple[int, Unit]]:
    """Units that begin in the range; damage is one unit up to the next candidate."""
    last = layout.end()
    spent = 0
    while position is not None and (end is None or position < end) and (last is None or position < last):
        unit = layout.unit(position)
        if unit.problem is None:
            yield position, unit
            position = unit.end
            if stream is not None:
                stream.forget(position)
                if not stream.read(position, 1):
                    if stream.problem is not None:
                        yield position, Unit(position, b"", stream.problem)
                    return
            continue
        spent += unit.spent
        if spent > waste(limits):
            rest = last if last is not None else position
            detail = f"{spent} bytes were looked at in vain; the rest of the file is left"
            yield position, Unit(rest, b"", Problem("read.damaged", detail))
            return
        following = next_candidate(layout, position + 1)
        problem = unit.problem
        if following is None and stream is not None and stream.problem is not None:
            problem = stream.problem
        reached = following if following is not None else last
        yield position, Unit(position if reached is None else reached, b"", problem)
        position = following
