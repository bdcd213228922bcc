"""Repositories: one record a file, the same from a folder, a zip and a tar, with licences and evidence."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from arriero.data.extract import ExtractSettings, make_extractor
from arriero.data.readers.code import CodeReader
from arriero.data.records import Extraction, Limits, Record, Refused

FILES = {
    "LICENSE": "Licensed under the Apache License, Version 2.0",
    "main.py": "print(1)\n",
    "gpl/COPYING": "GNU General Public License version 3",
    "gpl/a.c": "int a;\n",
    "tagged.rs": "// SPDX-License-Identifier: MIT\nfn main() {}\n",
    "odd/LICENSE": "only on Tuesdays",
    "odd/b.js": "let b;\n",
}
LICENSES = {
    "LICENSE": ("Apache-2.0", "text: Apache-2.0 in the file's header"),
    "main.py": ("Apache-2.0", "text: Apache-2.0 in LICENSE"),
    "gpl/COPYING": ("GPL-3.0", "text: GPL-3.0 in the file's header"),
    "gpl/a.c": ("GPL-3.0", "text: GPL-3.0 in gpl/COPYING"),
    "tagged.rs": ("MIT", "tag: SPDX-License-Identifier"),
    "odd/LICENSE": (None, None),
    "odd/b.js": (None, None),
}


def repository(at: Path, kind: str) -> Path:
    if kind == "folder":
        for name, text in FILES.items():
            (at / "repo" / name).parent.mkdir(parents=True, exist_ok=True)
            (at / "repo" / name).write_text(text)
        return at / "repo"
    path = at / f"repo.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in FILES.items():
                archive.writestr(name, text)
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
        for name, text in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def read(path: Path, split_bytes: int = 1 << 40) -> list[Record | Refused]:
    reader = CodeReader()
    return [
        item
        for start, end in reader.splits(path, split_bytes)
        for item in reader.read(path, start, end, Limits())
    ]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_licences_of_all_files(tmp_path: Path, kind: str) -> None:
    found = read(repository(tmp_path, kind))
    assert {
        one.id: (one.license, one.license_evidence) for one in found if isinstance(one, Record)
    } == LICENSES
    odd = next(one for one in found if one.id == "odd/b.js")
    assert isinstance(odd, Record) and odd.meta["license"] == "unknown: odd/LICENSE not recognised"


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("split_bytes", [60, 300, 700])
def test_splits(tmp_path: Path, kind: str, split_bytes: int) -> None:
    path = repository(tmp_path, kind)
    assert read(path, split_bytes) == read(path)


def test_single_files_and_parts_look_up_to_the_root_that_is_given(tmp_path: Path) -> None:
    root = repository(tmp_path, "folder")

    def licenses(path: Path, root: Path | None = None) -> list[tuple[str, str | None]]:
        found = list(CodeReader(root=root).read(path, 0, None, Limits()))
        return [(one.id, one.license) for one in found if isinstance(one, Record)]

    assert licenses(root / "main.py") == [("main.py", "Apache-2.0")]
    (root / "src").mkdir()
    (root / "src/new.py").write_text("x = 1\n")
    assert licenses(root / "src/new.py") == licenses(root / "src") == [("new.py", None)]
    assert licenses(root / "src/new.py", root) == [("src/new.py", "Apache-2.0")]
    assert licenses(root / "src", root) == [("new.py", "Apache-2.0")]
    assert licenses(root / "odd", root) == [("LICENSE", None), ("b.js", None)]
    assert licenses(root / "src", tmp_path / "elsewhere") == [("new.py", None)]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "missing.py"])
def test_what_is_not_there_or_broken_is_one_refusal(tmp_path: Path, name: str) -> None:
    if name != "missing.py":
        (tmp_path / name).write_bytes(b"nonsense" * 100)
    (item,) = CodeReader().read(tmp_path / name, 0, None, Limits())
    assert isinstance(item, Refused) and item.reason == "read.damaged"


def test_the_whole_way_to_texts(tmp_path: Path) -> None:
    extractor = make_extractor(ExtractSettings())
    found = [
        extractor.extract(one, Limits())
        for one in read(repository(tmp_path, "zip"))
        if isinstance(one, Record)
    ]
    assert [one.text for one in found if isinstance(one, Extraction)] == [
        FILES[name] for name in ("main.py", "gpl/a.c", "tagged.rs", "odd/b.js")
    ]
    assert {one.reason for one in found if isinstance(one, Refused)} == {"extract.license_file"}
