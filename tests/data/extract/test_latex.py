"""arXiv submissions: gzip, archives, bombs and other bad input."""

import gzip
import io
import random
import tarfile
from typing import Any

import pytest

from arriero.data.extract import ExtractSettings
from arriero.data.extract.latex import LatexExtractor
from arriero.data.records import Extraction, Limits, Record, Refused

LIMITS = Limits()
TEX = b"\\documentclass{article}\\def\\x{X}\\begin{document}\\section{A}\\x\\end{document}"


def run(content: bytes | str, limits: Limits = LIMITS, **settings: Any) -> Extraction | Refused:
    record = Record("1", content, "application/x-tex", 0, len(content), license="CC-BY-4.0")
    return LatexExtractor(ExtractSettings(**settings)).extract(record, limits)


def archive(files: dict[str, bytes], kind: bytes | None = None, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = 0 if kind else len(data)
            if kind:
                member.type, member.linkname = kind, link
            tar.addfile(member, None if kind else io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        TEX,
        TEX.decode(),
        gzip.compress(TEX, mtime=0),
        gzip.compress(archive({"a.tex": TEX}), mtime=0),
        archive({"./d/a.tex": TEX}),
    ],
)
def test_every_container(content: bytes | str) -> None:
    found = run(content)
    assert isinstance(found, Extraction)
    assert found.text == "\\section{A}X"
    assert found.license == "CC-BY-4.0" and found.meta["macros"] == 1


def test_settings() -> None:
    found = run(TEX, latex_macros=False)
    assert isinstance(found, Extraction) and found.text.endswith("\\x")
    assert found.extractor != run(TEX).extractor  # type: ignore[union-attr]


def test_macros_left_are_named() -> None:
    found = run(TEX.replace(b"\\x}", b"\\y}").replace(b"{X}", b"{\\x}"))
    assert isinstance(found, Extraction) and found.meta["unexpanded"] == {"x": "it never ends"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no section here \\emph{x}", "extract.no_section"),
        (b"plain words", "extract.not_tex"),
        (b"%PDF-1.5 ...", "extract.not_tex"),
        (archive({"a.png": b"x"}), "extract.not_tex"),
        (gzip.compress(TEX, mtime=0)[:-12], "extract.damaged"),
        (b"\x1f\x8bnothing", "extract.damaged"),
        (gzip.compress(b"x" * 5_000_000, mtime=0), "extract.expansion"),
        (archive({"../a.tex": TEX}), "extract.unsafe_member"),
        (archive({"/a.tex": TEX}), "extract.unsafe_member"),
        (archive({"a.tex": b""}, tarfile.SYMTYPE, "/etc/passwd"), "extract.unsafe_member"),
        (archive({"a.tex": b""}, tarfile.LNKTYPE, "../b"), "extract.unsafe_member"),
        (archive({"a.tex": TEX})[:550], "extract.damaged"),
        (b"", "extract.not_tex"),
    ],
    ids=range(13),
)
def test_bad_input_is_one_reason(content: bytes, reason: str) -> None:
    found = run(content)
    assert isinstance(found, Refused) and found.reason == reason


def test_a_large_archive_is_refused() -> None:
    found = run(archive({"a.tex": TEX + b" " * 5000}), Limits(record_bytes=4000))
    assert isinstance(found, Refused) and found.reason == "extract.too_large"


def test_any_bytes() -> None:
    r = random.Random(5)
    packed, plain = gzip.compress(archive({"a.tex": TEX}), mtime=0), archive({"a.tex": TEX})
    for _ in range(300):
        data = bytearray(r.choice((packed, plain, TEX)))
        for _ in range(r.randint(1, 20)):
            data[r.randrange(len(data))] = r.randrange(256)
        assert isinstance(run(bytes(data[: r.randint(0, len(data))])), (Extraction, Refused))
