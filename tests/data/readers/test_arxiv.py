"""arXiv's bulk archives and single submissions."""

import io
import tarfile
from pathlib import Path

import pytest

from arriero.data.readers import format_of
from arriero.data.readers.arxiv import ArxivReader, arxiv_id
from arriero.data.records import Limits, Record, Refused


def bulk(path: Path, names: list[str], size: int = 700) -> Path:
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("0704")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number, name in enumerate(names):
            member = tarfile.TarInfo(f"0704/{name}")
            data = bytes([number % 251]) * (size + number)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("0704.0001.gz", "0704.0001"),
        ("a/2301.12345v2.tar.gz", "2301.12345v2"),
        ("hep-th9901001.gz", "hep-th/9901001"),
        ("x.gz", None),
    ],
)
def test_identifiers(name: str, identifier: str | None) -> None:
    assert arxiv_id(name) == identifier


@pytest.mark.parametrize("split_bytes", [1, 2000, 5000, 10**9])
def test_splits_give_every_submission_once(tmp_path: Path, split_bytes: int) -> None:
    path = bulk(tmp_path / "arXiv_src_0704_001.tar", [f"0704.{n:04d}.gz" for n in range(20)])
    reader = ArxivReader()
    ranges = reader.splits(path, split_bytes)
    found = [each for start, end in ranges for each in reader.read(path, start, end, Limits())]
    assert [each.id for each in found] == [f"0704.{n:04d}" for n in range(20)]
    raw = path.read_bytes()
    for each in found:
        assert isinstance(each, Record)
        assert raw[each.offset : each.offset + each.length] == each.content
        assert each.url == f"https://arxiv.org/abs/{each.id}"
    assert len(ranges) == {1: 21, 10**9: 1}.get(split_bytes, len(ranges))


def test_other_members_are_refused(tmp_path: Path) -> None:
    path = bulk(tmp_path / "a.tar", ["0704.0001.pdf", "0704.0002.gz"])
    first, second = ArxivReader().read(path, 0, None, Limits(record_bytes=1))
    assert isinstance(first, Refused) and first.reason == "read.not_tex"
    assert isinstance(second, Refused) and second.reason == "read.too_large"


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = bulk(tmp_path / "a.tar", [f"0704.{n:04d}.gz" for n in range(3)])
    path.write_bytes(path.read_bytes()[:2900])
    found = list(ArxivReader().read(path, 0, None, Limits()))
    assert [type(each) for each in found] == [Record, Refused]
    assert found[1].reason == "read.truncated"  # type: ignore[union-attr]


def test_one_submission(tmp_path: Path) -> None:
    path = tmp_path / "0704.0001.gz"
    path.write_bytes(b"packed")
    (found,) = ArxivReader().read(path, 0, None, Limits())
    assert isinstance(found, Record) and found.content == b"packed" and found.id == "0704.0001"
    with tarfile.open(tmp_path / "0704.0002.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("main.tex"))
    (found,) = ArxivReader().read(tmp_path / "0704.0002.tar", 0, None, Limits())
    assert isinstance(found, Record) and found.id == "0704.0002"


def test_no_archive_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"\x01" * 2000)
    assert [
        each.reason for each in ArxivReader().read(path, 0, None, Limits()) if isinstance(each, Refused)
    ] == ["read.damaged"]


def test_formats_by_name() -> None:
    assert format_of(Path("arXiv_src_0704_001.tar")) == "arxiv"
    assert format_of(Path("main.tex.gz")) == "arxiv"
