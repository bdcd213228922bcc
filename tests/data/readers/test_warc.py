"""Web archives: every record once for any cut, and one precise reason for each thing that can be wrong."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import random
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.data.readers.warc import WarcReader
from arriero.data.records import Limits, Record, Refused

SAMPLES = Path(__file__).parent.parent / "curation" / "warc"
LIMITS = Limits(record_bytes=1 << 20)
FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def http(
    body: bytes, headers: str = "Content-Type: text/html; charset=utf-8\r\n", status: str = "200 OK"
) -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body


def warc(
    number: int, block: bytes, extra: str = "", length: int | None = None, kind: str = "response"
) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number:08d}>\r\n"
        f"WARC-Target-URI: http://a.example/{number}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n{extra}"
        f"Content-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(block) if length is None else length}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def page(number: int, size: int = 50) -> bytes:
    rng = random.Random(number)
    body = "".join(rng.choices("abcdefghijklmnop <p>\n", k=rng.randrange(size)))
    return warc(number, http(f"<html>{number} {body}</html>".encode()))


def read(
    path: Path, cuts: Sequence[int] = (), limits: Limits = LIMITS, reader: WarcReader | None = None
) -> list[Record | Refused]:
    edges = [0, *sorted(cuts), None]
    found: list[Record | Refused] = []
    for start, end in itertools.pairwise(edges):
        assert start is not None
        found += (reader or WarcReader()).read(path, start, end, limits)
    return found


def write(path: Path, records: Sequence[bytes], packed: bool) -> Path:
    path.write_bytes(b"".join(gzip.compress(record, 6, mtime=0) if packed else record for record in records))
    return path


def reasons(found: Sequence[Record | Refused]) -> list[str]:
    return [item.reason if isinstance(item, Refused) else item.id for item in found]


# ---------------------------------------------------------------- good files


@pytest.mark.parametrize("packed", [False, True])
def test_reads_pages_with_their_headers_and_places(tmp_path: Path, packed: bool) -> None:
    pages = [page(number) for number in range(5)]
    information = warc(90, b"software: x\r\n", kind="warcinfo")
    request = warc(91, b"GET / HTTP/1.1\r\n\r\n", kind="request")
    path = write(tmp_path / "a.warc", [information, pages[0], request, *pages[1:]], packed)
    found = read(path)
    assert [item.id for item in found] == [f"{number:08d}" for number in range(5)]
    raw = path.read_bytes()
    for number, item in enumerate(found):
        assert isinstance(item, Record)
        assert item.content_type == "text/html"
        assert (item.url, item.date, item.meta) == (
            f"http://a.example/{number}", "2024-01-01T00:00:00Z", {"charset": "utf-8"},
        )  # fmt: skip
        piece = raw[item.offset : item.offset + item.length]
        assert (gzip.decompress(piece) if packed else piece) == pages[number]
        assert not item.in_content
        assert isinstance(item.content, bytes)
        assert pages[number].endswith(item.content + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("whirlwind.warc.gz", ["text/html"]),
        ("whirlwind.warc.wet.gz", ["text/plain"]),
        ("example.warc.gz", ["text/html"]),
        ("example-iana.org-chunked.warc", ["text/html"]),
    ],
)
def test_reads_real_archives(name: str, types: list[str]) -> None:
    found = read(SAMPLES / name)
    assert [item.content_type for item in found if isinstance(item, Record)] == types
    assert len(found) == len(types)


@pytest.mark.parametrize("name", ["whirlwind.warc.gz", "whirlwind.warc.wet.gz"])
def test_as_another_reader_of_web_archives(name: str) -> None:
    fastwarc = pytest.importorskip("fastwarc.warc")
    with (SAMPLES / name).open("rb") as file:
        wanted = fastwarc.WarcRecordType.response | fastwarc.WarcRecordType.conversion
        theirs = [
            (record.record_id.strip("<>").removeprefix("urn:uuid:"), record.stream_pos, record.reader.read())
            for record in fastwarc.ArchiveIterator(file, record_types=wanted)
        ]
    mine = [(item.id, item.offset, item.content) for item in read(SAMPLES / name) if isinstance(item, Record)]
    assert mine == theirs


def test_chunks_are_put_together() -> None:
    (found,) = read(SAMPLES / "example-iana.org-chunked.warc")
    assert isinstance(found, Record)
    assert isinstance(found.content, bytes)
    assert found.content.lstrip().startswith(b"<!doctype html>")
    assert found.content.rstrip().endswith(b"</html>")


@pytest.mark.parametrize("whole", [gzip.compress, None])
def test_an_archive_compressed_as_a_whole_is_one_split(tmp_path: Path, whole: object) -> None:
    zstandard = pytest.importorskip("zstandard")
    pages = b"".join(page(number) for number in range(50))
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(pages) if whole else zstandard.compress(pages))
    assert WarcReader().splits(path, 100) == [(0, None)]
    found = read(path, [500])
    assert len(found) == 50
    for item in found:
        assert item.in_content
        assert pages[item.offset : item.offset + item.length].startswith(b"WARC/1.0")


def test_splits_cover_the_file_and_each_record_is_read_once(tmp_path: Path) -> None:
    for packed in (False, True):
        path = write(tmp_path / "b.warc", [page(number, 3000) for number in range(60)], packed)
        splits = WarcReader().splits(path, 2000)
        assert len(splits) > 5
        found = [item for start, end in splits for item in WarcReader().read(path, start, end, LIMITS)]
        assert found == read(path)
        assert len(found) == 60


# ---------------------------------------------------------------- any cut


@FUZZ
@given(data=st.data(), packed=st.booleans())
def test_random_cuts_read_each_record_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("w") / "a.warc"
    write(path, [page(number, 400) for number in range(12)], packed)
    cuts = data.draw(st.lists(st.integers(1, path.stat().st_size + 5), max_size=6, unique=True))
    assert read(path, cuts) == read(path)


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_inside_a_record_is_no_record_wherever_the_cut_lies(tmp_path: Path, packed: bool) -> None:
    inner = [page(number + 50, 200) for number in range(6)]
    body = b"".join(gzip.compress(record, 6, mtime=0) for record in inner) if packed else b"".join(inner)
    outer = [page(0), warc(1, http(body, "Content-Type: application/warc\r\n")), page(2)]
    path = tmp_path / "a.warc"
    if packed:  # stored, so that the inner members lie in the file byte for byte
        path.write_bytes(b"".join(gzip.compress(record, 0, mtime=0) for record in outer))
        assert path.read_bytes().count(b"\x1f\x8b\x08") == 9
    else:
        path.write_bytes(b"".join(outer))
    whole = read(path)
    assert reasons(whole) == ["00000000", "00000001", "00000002"]
    for cut in range(1, path.stat().st_size, 7):
        assert read(path, [cut]) == whole


# ---------------------------------------------------------------- damage


@FUZZ
@given(data=st.data(), packed=st.booleans())
def test_damage_costs_only_what_it_touches_and_cuts_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("w") / "a.warc"
    write(path, [page(number, 400) for number in range(8)], packed)
    raw = bytearray(path.read_bytes())
    good = {item.id: item for item in read(path)}
    starts = sorted(item.offset for item in good.values())
    hits = data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=3))
    for hit in hits:
        raw[hit] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(raw))
    found = read(path)
    cuts = data.draw(st.lists(st.integers(1, len(raw)), max_size=4, unique=True))
    assert read(path, cuts) == found
    touched = {max(start for start in starts if start <= hit) for hit in hits}
    untouched = [item for item in good.values() if item.offset not in touched]
    assert [item for item in found if item in untouched] == untouched


def test_a_damaged_beginning_does_not_cost_the_record_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.warc", [page(number, 400) for number in range(4)], packed=False)
    raw, whole = path.read_bytes(), read(path)
    for at in range(whole[2].offset, whole[2].offset + 10):
        for change in (1, 0x5A, 0xFF):  # 0x5A: W becomes an end of line
            path.write_bytes(raw[:at] + bytes([raw[at] ^ change]) + raw[at + 1 :])
            found = read(path)
            assert {item.id for item in found if isinstance(item, Record)} >= {
                "00000000",
                "00000001",
                "00000003",
            }
            assert read(path, [at, at + 5]) == found


@FUZZ
@given(data=st.data(), packed=st.booleans())
def test_a_file_cut_short_anywhere_keeps_what_is_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("w") / "a.warc"
    write(path, [page(number, 300) for number in range(5)], packed)
    raw, whole = path.read_bytes(), read(path)
    length = data.draw(st.integers(0, len(raw)))
    path.write_bytes(raw[:length])
    found = read(path)
    assert read(path, [max(length // 2, 1)]) == found
    complete = [item for item in whole if item.offset + item.length <= length]
    assert found[: len(complete)] == complete
    rest = found[len(complete) :]
    # Of a plain record the blank lines behind it may be missing.
    assert len(rest) <= 1
    assert all(isinstance(item, Record) or item.reason == "read.truncated" for item in rest)


@FUZZ
@given(data=st.data(), packed=st.booleans())
def test_liars_and_archives_inside_records_are_read_alike_for_any_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, packed: bool
) -> None:
    records = []
    for number in range(data.draw(st.integers(1, 6))):
        inner = [page(50 + other, 200) for other in range(3)]
        body = b"".join(gzip.compress(record, 6, mtime=0) if packed else record for record in inner)
        kinds = [
            page(number, 300),
            warc(number, http(body, "Content-Type: application/warc\r\n")),
            warc(number, http(b"<html>liar"), length=data.draw(st.integers(0, 600))),
        ]
        record = data.draw(st.sampled_from(kinds))
        level = data.draw(st.sampled_from([0, 6]))
        records.append(gzip.compress(record, level, mtime=0) if packed else record)
    path = tmp_path_factory.mktemp("w") / "a.warc"
    path.write_bytes(b"".join(records))
    cuts = data.draw(st.lists(st.integers(1, path.stat().st_size), max_size=6, unique=True))
    assert read(path, cuts) == read(path)


CHUNKED = "Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n"
GZIPPED = "Content-Type: text/html\r\nContent-Encoding: gzip\r\n"
BAD = {
    "read.http_status": warc(1, http(b"no", status="404 Not Found")),
    "read.http": warc(1, b"HTTP/1.1 what\r\n\r\n<html>"),
    "read.chunked": warc(1, http(b"5\r\nhello\r\nff\r\nshort", CHUNKED)),
    "read.content_encoding": warc(1, http(gzip.compress(b"<html>" * 99)[:-9], GZIPPED)),
    "read.too_large": warc(1, http(gzip.compress(bytes(LIMITS.record_bytes + 9)), GZIPPED)),
    "read.digest": warc(1, http(b"<html>changed"), f"WARC-Block-Digest: sha1:{'A' * 32}\r\n"),
    "read.header": warc(1, http(b"<html>")).replace(b"2024", b"2\x0024"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("reason", BAD)
def test_each_fault_is_one_reason_and_reading_goes_on(tmp_path: Path, reason: str, packed: bool) -> None:
    path = write(tmp_path / "a.warc", [page(0), BAD[reason], page(2)], packed)
    assert reasons(read(path)) == ["00000000", reason, "00000002"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("length", [0, 20, 70, 71, 5000])
def test_a_content_length_that_lies_costs_its_own_record(tmp_path: Path, packed: bool, length: int) -> None:
    liar = warc(1, http(b"<html>liar</html>"), length=length)
    path = write(tmp_path / "a.warc", [page(0), liar, page(2), page(3)], packed)
    found = read(path)
    if length == len(http(b"<html>liar</html>")):
        assert len(found) == 4
    else:
        assert reasons(found) == ["00000000", "read.length", "00000002", "00000003"]


def test_lengths_that_are_no_numbers_and_huge_ones(tmp_path: Path) -> None:
    for value, reason in (("-5", "read.header"), ("ten", "read.header"), ("9" * 15, "read.too_large")):
        record = warc(1, http(b"<html>")).replace(
            b"Content-Length: ", f"Content-Length: {value}x"[:-1].encode() + b"\r\nX-"
        )
        path = write(tmp_path / "a.warc", [page(0), record, page(2)], False)
        assert reasons(read(path)) == ["00000000", reason, "00000002"]


def test_digests_in_both_alphabets_of_body_and_block(tmp_path: Path) -> None:
    block = http(b"<html>x</html>")
    body = hashlib.sha1(b"<html>x</html>").digest()
    good = [
        f"WARC-Payload-Digest: sha1:{base64.b32encode(body).decode()}\r\n",
        f"WARC-Payload-Digest: sha1:{body.hex()}\r\n",
        f"WARC-Block-Digest: sha256:{hashlib.sha256(block).hexdigest()}\r\n",
        "WARC-Block-Digest: blake7:abc\r\n",
    ]
    path = write(
        tmp_path / "a.warc", [warc(number, block, extra) for number, extra in enumerate(good)], False
    )
    assert all(isinstance(item, Record) for item in read(path))
    wrong = f"WARC-Payload-Digest: sha1:{hashlib.sha1(b'other').hexdigest()}\r\n"
    path = write(tmp_path / "b.warc", [warc(0, block, wrong)], False)
    assert reasons(read(path)) == ["read.digest"]
    assert reasons(read(path, reader=WarcReader(check_digests=False))) == ["00000000"]


def test_a_body_stored_decoded_under_its_old_headers_is_taken_as_it_is(tmp_path: Path) -> None:
    records = [warc(0, http(b"<html>a", CHUNKED)), warc(1, http(b"<html>b", GZIPPED))]
    found = read(write(tmp_path / "a.warc", records, True))
    assert [item.content for item in found if isinstance(item, Record)] == [b"<html>a", b"<html>b"]


def test_garbage_between_records_is_one_refusal(tmp_path: Path) -> None:
    for packed in (False, True):
        path = write(tmp_path / "a.warc", [page(0), page(1)], packed)
        first = read(path)[1].offset
        raw = path.read_bytes()
        path.write_bytes(raw[:first] + bytes(5000) + b"\n" + raw[first:])
        expected = ["00000000", "read.garbage", "00000001"] if packed else ["read.length", "00000001"]
        assert reasons(read(path)) == expected
        assert read(path, [first + 9, first + 99]) == read(path)


def test_a_gzip_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    head, tail = warc(1, b"", length=300 << 20)[:-4], b"\r\n\r\n"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(head) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(300))
    bomb += packer.compress(tail) + packer.flush()
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(page(0)) + bomb + gzip.compress(page(2)))
    tracemalloc.start()
    found = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reasons(found) == ["00000000", "read.too_large", "00000002"]
    assert peak < 12 << 20


def test_a_bomb_over_a_whole_archive_stops_at_its_expansion(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(page(0) + page(1) + bytes(300 << 20)))
    limits = Limits(record_bytes=1 << 20, expansion=50)
    assert reasons(read(path, limits=limits)) == ["00000000", "read.expansion"]


def test_many_false_beginnings_do_not_make_reading_quadratic(tmp_path: Path) -> None:
    false = b"".join(
        b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 900000\r\n\r\n" for _ in range(20_000)
    )
    path = tmp_path / "a.warc"
    path.write_bytes(page(0) + false)
    found = read(path)
    assert found[0].id == "00000000"
    assert reasons(found)[-1] == "read.damaged"


def test_the_broken_samples_of_other_tools_end_without_an_exception() -> None:
    assert "read.length" in reasons(read(SAMPLES / "example-trunc.warc"))
    assert any(isinstance(item, Record) for item in read(SAMPLES / "example-bad.warc.gz.bad"))
