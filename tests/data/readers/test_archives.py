"""Archives: members become records; links, names that leave the archive and bombs are reasons."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.data.readers.archives import ArchiveReader
from arriero.data.records import Limits, Record, Refused
from arriero.data.sourcetree.members import path_problem

LIMITS = Limits(record_bytes=1 << 16)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def read(path: Path, limits: Limits = LIMITS) -> list[Record | Refused]:
    assert ArchiveReader().splits(path, 1) == [(0, None)]
    assert list(ArchiveReader().read(path, 1, None, limits)) == []
    return list(ArchiveReader().read(path, 0, None, limits))


def outcome(found: list[Record | Refused]) -> list[object]:
    return [item.content if isinstance(item, Record) else item.reason for item in found]


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(entries: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if change:
                change(info)
            archive.writestr(info, data)
    return out.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_are_records(tmp_path: Path, pack: Callable[[bytes], bytes], format: int) -> None:
    long = "d/" * 49 + "ä" * 30 + ".txt" if format != tarfile.USTAR_FORMAT else "plain.txt"
    data = tar(
        entry("pages", type=tarfile.DIRTYPE), entry("pages/a.html", b"<html>"), entry(long, b"long"),
        entry("b.tex", b"\\x" * 999), entry("c.png", b"\x89PNG"), format=format,
    )  # fmt: skip
    path = tmp_path / "a.tar"
    path.write_bytes(pack(data))
    found = read(path)
    assert outcome(found) == [b"<html>", b"long", b"\\x" * 999, "read.member_type"]
    kinds = [(item.content_type, item.meta["member"]) for item in found if isinstance(item, Record)]
    assert kinds == [("text/html", "pages/a.html"), ("text/plain", long), ("application/x-tex", "b.tex")]
    for item in found:
        assert item.in_content == (pack is not bytes)
        if isinstance(item, Record):
            assert isinstance(item.content, bytes)
            assert data[item.offset : item.offset + item.length].endswith(item.content)


def test_zip_members_are_records(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"d/": b"", "d/a.html": b"<html>", "b.txt": b"b", "c.zip": b"PK"}))
    found = read(path)
    assert outcome(found) == [b"<html>", b"b", "read.member_type"]
    assert [item.in_content for item in found] == [False] * 3


def test_links_devices_and_names_that_leave_a_tar_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(
        tar(
            entry("link.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            entry("hard.txt", type=tarfile.LNKTYPE, linkname="good.txt"),
            entry("pipe.txt", type=tarfile.FIFOTYPE), entry("../up.txt", b"x"), entry("/root.txt", b"x"),
            entry("a/../../up.txt", b"x"), entry("good.txt", b"good"),
        )
    )  # fmt: skip
    expected = ["read.link", "read.link", "read.not_a_file", "read.path", "read.path", "read.path", b"good"]
    assert outcome(read(path)) == expected
    assert not path_problem("a..b/c...txt")
    assert all(path_problem(name) for name in ("C:\\x", "\\x", "a\\..\\b", "..", "a\0"))


def test_links_names_and_encryption_in_a_zip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"

    def change(info: zipfile.ZipInfo) -> None:
        if info.filename == "link.txt":
            info.external_attr = 0o120777 << 16

    data = bytearray(
        zipped({"link.txt": b"/etc/passwd", "../up.txt": b"x", "key.txt": b"x", "good.txt": b"good"}, change)
    )
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = -1
        for _ in range(3):
            position = data.index(mark, position + 1)
        data[position + at] |= 1
    path.write_bytes(bytes(data))
    assert outcome(read(path)) == ["read.link", "read.path", "read.encrypted", b"good"]


def test_large_members_and_zip_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar(entry("big.txt", bytes(1 << 17)), entry("good.txt", b"good")))
    assert outcome(read(path)) == ["read.too_large", b"good"]
    path.write_bytes(zipped({"big.txt": bytes(1 << 17), "good.txt": b"good"}))
    assert outcome(read(path)) == ["read.too_large", b"good"]
    limits = Limits(record_bytes=64 << 20, expansion=100)
    path.write_bytes(zipped({"bomb.txt": bytes(20 << 20), "good.txt": b"good"}))
    assert outcome(read(path, limits)) == ["read.expansion", b"good"]
    path.write_bytes(gzip.compress(tar(entry("good.txt", b"good"), entry("bomb.txt", bytes(200 << 20)))))
    tracemalloc.start()
    assert outcome(read(path, Limits(record_bytes=1 << 16, expansion=50)))[:2] == [b"good", "read.too_large"]
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_members_of_a_zip_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """The overlapping bomb (Fifield 2019): many entries of the directory point to one member."""
    data = zipped({"a.txt": b"x" * 999})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    directory = data[start:end]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 5, 5, 5 * len(directory), start, 0)
    path = tmp_path / "a.zip"
    path.write_bytes(data[:start] + 5 * directory + tail)
    assert outcome(read(path)) == [b"x" * 999, *["read.overlap"] * 4]


def test_a_tar_header_of_any_size_is_not_read_into_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 100 << 20
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(100 << 20) + tar(entry("good.txt", b"good"))))
    tracemalloc.start()
    assert outcome(read(path, Limits(record_bytes=1 << 16, expansion=10_000))) == ["read.header", b"good"]
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_compressed_archives_end_with_a_reason(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    data = tar(entry("a.txt", b"first"), entry("b.txt", random.Random(0).randbytes(30_000)))
    path = tmp_path / "a.tar"
    path.write_bytes(pack(data)[:-20_000])
    found = outcome(read(path))
    assert found[-1] == "read.truncated"
    path.write_bytes(pack(data[:1024]) + pack(data[1024:]))
    assert outcome(read(path))[0] == b"first" and len(read(path)) == 2
    path.write_bytes(pack(tar(entry("good.txt", b"good"), entry("bomb.txt", bytes(200 << 20)))))
    tracemalloc.start()
    assert outcome(read(path, Limits(record_bytes=1 << 16, expansion=50)))[:2] == [b"good", "read.too_large"]
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_negative_size_is_no_header(tmp_path: Path) -> None:
    info, _ = entry("a.txt")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(block) + tar(entry("b.txt", b"b")))
    assert outcome(read(path)) == ["read.header", b"b"]


@FUZZ
@given(data=st.data())
def test_a_damaged_tar_loses_only_what_is_touched(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    entries = [entry(f"{number}.txt", bytes([65 + number]) * 700) for number in range(6)]
    raw = bytearray(tar(*entries, format=tarfile.USTAR_FORMAT))
    hit = data.draw(st.integers(0, 6 * 1536 - 1))
    raw[hit] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("t") / "a.tar"
    path.write_bytes(bytes(raw))
    found = outcome(read(path))
    assert all(entries[number][1] in found for number in range(6) if number != hit // 1536)


@FUZZ
@given(data=st.data(), kind=st.sampled_from(["tar", "zip", "gz"]))
def test_any_damage_ends_without_an_exception(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    names = {f"{number}.txt": bytes([65 + number]) * 300 for number in range(4)}
    raw = zipped(names) if kind == "zip" else tar(*(entry(*pair) for pair in names.items()))
    broken = bytearray(gzip.compress(raw) if kind == "gz" else raw)
    for _ in range(data.draw(st.integers(0, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("t") / "a.bin"
    path.write_bytes(bytes(broken[: data.draw(st.integers(0, len(broken)))]))
    assert all(isinstance(item, Record | Refused) for item in read(path))
