"""Whatever is in the files, curation ends, and the ledger has a reason for each bad record."""

from __future__ import annotations

import gzip
import io
import json
import resource
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arriero.data.audit.curated import CuratedCorpus
from arriero.stage import get_stage

GOOD = "A sentence that is quite all right, and another one after it. " * 5


def warc_record(body: bytes, length: int | None = None) -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    size = len(http) if length is None else length
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://x.example/\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{zlib.crc32(body)}>\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def page(text: str = GOOD) -> bytes:
    return f"<html><body><article><p>{text}</p></article></body></html>".encode()


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name, kind in (("good.txt", None), ("../out.txt", None), ("link.txt", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            data = GOOD.encode()
            if kind:
                info.type, info.linkname, data = kind, "/etc/passwd", b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.txt", GOOD)
        archive.writestr("bomb.txt", b"a" * 80_000_000)


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + '<!ENTITY z "&j;&j;">]><posts><row Id="1" PostTypeId="1" Title="t" Body="&z;" /></posts>'
)
TEX = (
    r"\documentclass{article}\newcommand{\a}{\b\b}\newcommand{\b}{\a\a}\begin{document}\section{One} "
    + GOOD
    + r"\a \end{document}"
)


def write_all(folder: Path) -> list[dict[str, Any]]:
    """Bad files, and the sources that read them."""
    web = folder / "web"
    web.mkdir()
    (web / "truncated.warc").write_bytes(warc_record(page()) + warc_record(page())[:-60])
    (web / "lying.warc").write_bytes(warc_record(page(), 10**12) + warc_record(page()))
    (web / "broken.warc.gz").write_bytes(
        gzip.compress(warc_record(page())) + b"\x1f\x8b\x08\x00nothing of the kind"
    )
    (web / "bomb.html").write_bytes(b"<div>" * 1_000_000)
    (web / "nul.html").write_bytes(page("x\0y" * 100))
    lines = [
        json.dumps({"text": GOOD}).encode(), b'{"text": "\xff\xfe"}', b'{"text": ', b"[1, 2]", b'{"txet": "x"}',
        b'{"text": "' + b"a" * 100_000_000 + b'"}', b'{"text": "\\ud800"}', json.dumps({"text": GOOD + "2"}).encode(),
    ]  # fmt: skip
    (folder / "lines.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines), 1))
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": GOOD}).encode() * 2000)[:-30])
    write_tar(folder / "members.tar")
    write_zip_bomb(folder / "bomb.zip")
    (folder / "Posts.xml").write_text(LAUGHS)
    (folder / "cyclic.tex").write_text(TEX)
    named = {"web": web}
    for name in ("lines.jsonl.gz", "cut.jsonl.gz", "members.tar", "bomb.zip", "Posts.xml", "cyclic.tex"):
        named[name.split(".")[0]] = folder / name
    return [{"name": name, "path": path, "license": "x"} for name, path in named.items()]


@pytest.mark.slow
def test_every_bad_record_has_one_reason_and_the_run_ends(
    tmp_path: Path, make_context: Callable[..., Any]
) -> None:
    pytest.importorskip("resiliparse")
    sources = [s for s in write_all(tmp_path) if s["name"] not in ("Posts", "cut")]
    stage, context = get_stage("curate"), make_context()
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    settings = stage.Settings(
        sources=sources,
        rules={"presets": ["none"]},
        dedup={"exact": False, "threshold": None},
        validation_share=0.2,
    )
    outcome = stage.run(settings, {}, context)
    assert time.monotonic() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # kilobytes
    rows = [
        row
        for _, table in CuratedCorpus(context.folder).tables(("id", "source", "file", "stage", "reason"))
        for row in table.to_pylist()
    ]
    reasons = {
        source: sorted(r["reason"] for r in rows if r["source"] == source)
        for source in {r["source"] for r in rows}
    }
    assert len(reasons["lines"]) == 8 and reasons["lines"].count("") == 2
    assert all(reason.startswith("read.") for reason in reasons["lines"] if reason)
    assert reasons["members"].count("") == 1 and len(reasons["members"]) == 3
    assert reasons["bomb"].count("") == 1 and len(reasons["bomb"]) == 2
    assert reasons["cyclic"] == [""]  # the macro stays as it was written
    by_file = {name: [r["reason"] for r in rows if r["file"] == name] for name in {r["file"] for r in rows}}
    assert by_file["bomb.html"] == ["extract.too_many_nodes"]
    assert by_file["nul.html"] == ["extract.nul"]
    for name in ("truncated.warc", "lying.warc", "broken.warc.gz"):
        assert by_file[name].count("") == 1 and len(by_file[name]) >= 2, (name, by_file[name])
    total = outcome.facts["total"]
    assert (
        total["in"]["documents"]
        == len(rows)
        == total["kept"]["documents"] + sum(row["documents"] for row in total["dropped"].values())
    )


@pytest.mark.parametrize(
    ("name", "said"), [("Posts", "read.xml_doctype"), ("cut", "read.trunc|read.damaged")]
)
def test_a_source_that_is_bad_as_a_whole_is_one_clear_line(
    tmp_path: Path, make_context: Callable[..., Any], name: str, said: str
) -> None:
    from arriero.errors import ArrieroError

    source = next(s for s in write_all(tmp_path) if s["name"] == name)
    stage = get_stage("curate")
    settings = stage.Settings(sources=[source], rules={"presets": ["none"]})
    with pytest.raises(ArrieroError, match=said) as caught:
        stage.run(settings, {}, make_context())
    assert "\n" not in str(caught.value)
