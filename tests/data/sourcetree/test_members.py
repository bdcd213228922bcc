"""Members of folders, zips and tars: the same files from each; nothing outside, no bombs, no exceptions."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.data.records import Limits
from arriero.data.sourcetree.members import Member, members
from arriero.data.sourcetree.zips import directory_bytes

FILES = {
    "a.py": b"x = 1\n",
    "d/b.c": b"int b;\n",
    "d/e/LICENSE": b"MIT",
    "empty.py": b"",
    "z.txt": bytes(3000),
}


def every(path: Path, start: int = 0, end: int | None = None, limits: Limits | None = None) -> list[Member]:
    return list(members(path, start, end, limits or Limits(), lambda name: True))


def folder_of(at: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(content)
    return at


def tar_of(at: Path, files: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(at, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return at


def zip_of(at: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(at, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return at


def made(tmp_path: Path, kind: str) -> Path:
    if kind == "folder":
        return folder_of(tmp_path / "repo", FILES)
    if kind == "zip":
        return zip_of(tmp_path / "repo.zip", FILES)
    return tar_of(tmp_path / f"repo.{kind}", FILES, "w:" + {"tar": "", "tgz": "gz"}.get(kind, kind[4:]))


KINDS = ["folder", "zip", "tar", "tgz", "tar.bz2", "tar.xz"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_files_from_every_kind(tmp_path: Path, kind: str) -> None:
    found = every(made(tmp_path, kind))
    assert {one.path: one.content for one in found} == FILES and not any(one.problem for one in found)
    assert [one.offset for one in found] == sorted({one.offset for one in found})


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cuts=st.sets(st.integers(0, 20_000), max_size=4))
def test_any_cut_gives_every_member_once(tmp_path: Path, kind: str, cuts: set[int]) -> None:
    path = made(tmp_path, kind)
    edges = [0, *sorted(cuts), None]
    found = [one for start, end in pairwise(edges) for one in every(path, start or 0, end)]
    assert found == every(path)


def test_links_devices_and_version_control_in_a_folder(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "repo", {"a.py": b"1", ".git/config": b"secret", "in/b.py": b"2"})
    (root / "out.py").symlink_to("/etc/passwd")
    (root / "up").symlink_to("..")
    os.mkfifo(root / "pipe")
    problems = {one.path: one.problem for one in every(root)}
    assert problems == {
        "a.py": "", "in/b.py": "", "out.py": "read.link", "pipe": "read.not_a_file", "up": "read.link",
    }  # fmt: skip


def test_a_tar_that_wants_out(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("../up.py", "/abs.py", "a/../../b.py", "ok.py"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
        for kind, name in ((tarfile.SYMTYPE, "s"), (tarfile.LNKTYPE, "h"), (tarfile.CHRTYPE, "c")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    found = {one.path: (one.problem, one.content) for one in every(path)}
    assert {path: problem for path, (problem, _) in found.items()} == {
        "../up.py": "read.path_escapes", "/abs.py": "read.path_escapes", "a/../../b.py": "read.path_escapes",
        "ok.py": "", "s": "read.link", "h": "read.link", "c": "read.not_a_file",
    }  # fmt: skip
    assert [content for problem, content in found.values() if problem] == [None] * 6


def test_a_zip_that_wants_out_or_is_encrypted(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "evil.zip", {"../up.py": b"x", "C:/x.py": b"x", "a\\b.py": b"x", "ok.py": b"x"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"link"))
    found = {one.path: one.problem for one in every(path)}
    assert list(found.values()) == ["read.path_escapes"] * 3 + ["", "read.link"]
    struct.pack_into("<H", raw, raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 150) + 8, 1)
    (tmp_path / "locked.zip").write_bytes(raw)
    assert "read.encrypted" in {one.problem for one in every(tmp_path / "locked.zip")} and at


def test_bombs_are_stopped(tmp_path: Path) -> None:
    zeros = bytes(1 << 20)
    bomb = zip_of(tmp_path / "bomb.zip", {f"{n}.py": zeros for n in range(80)})
    found = every(bomb, limits=Limits(expansion=2))
    assert found[-1].problem == "read.expansion" and sum(len(one.content or b"") for one in found) <= 64 << 20
    packed = tar_of(tmp_path / "bomb.tar.gz", {f"{n}.py": zeros for n in range(80)}, "w:gz")
    assert every(packed, limits=Limits(expansion=2))[-1].problem == "read.expansion"
    large = zip_of(tmp_path / "large.zip", {"a.py": zeros, "b.py": b"1"})
    assert [one.problem for one in every(large, limits=Limits(record_bytes=1000))] == [
        "read.record_bytes",
        "",
    ]


def test_a_zip_lists_more_than_is_read(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "many.zip", {"a": b"1"})
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x05\x06")
    assert directory_bytes(path) == struct.unpack_from("<I", raw, at + 12)[0]
    struct.pack_into("<I", raw, at + 12, 1 << 30)
    path.write_bytes(raw)
    assert [one.problem for one in every(path)] == ["read.too_many_members"]


def test_a_tar_header_may_not_announce_an_endless_name(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    path = tmp_path / "long.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    assert [one.problem for one in every(path)] == ["read.damaged"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_is_told_and_never_raised(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path = made(tmp_path, kind)
    raw = bytearray(path.read_bytes())
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)
    ):
        raw[at] = value
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    for one in every(path):
        assert one.problem or one.content is not None
