"""PDF files: text, bounds, damage; a file that does not end costs its time and no more."""

from __future__ import annotations

import io
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pypdf = pytest.importorskip("pypdf")

from arriero.data.extract.pdf import PdfExtractor  # noqa: E402
from arriero.data.pdf.cleanup import PdfSettings  # noqa: E402
from arriero.data.readers.pdf import PdfReader  # noqa: E402
from arriero.data.records import Extraction, Limits, Record, Refused  # noqa: E402

PAGES = [
    [f"Great Report {number}", f"Page {word} tells of infor-", f"mation of {word} that runs on.", "Foot line"]
    for number, word in enumerate(("alpha", "beta", "gamma", "delta"), 1)
]


def pdf_of(pages: list[list[str]], stream: bytes | None = None, filtered: bytes = b"") -> bytes:
    """A PDF 1.4 file with one line of text under the other."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids = []
    for lines in pages:
        text = b"".join(b"(%s) Tj 0 -14 Td " % line.encode("latin-1") for line in lines)
        content = stream if stream is not None else b"BT /F1 12 Tf 72 720 Td " + text + b"ET"
        objects.append(b"<< /Length %d %s>> stream\n%s\nendstream" % (len(content), filtered, content))
        kids.append(len(objects) + 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
    listed = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (listed, len(kids))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)


@pytest.fixture(scope="module")
def extractor() -> PdfExtractor:
    return PdfExtractor(pdf=PdfSettings(max_pages=50, max_seconds=20))


def extract(extractor: PdfExtractor, content: bytes) -> Extraction | Refused:
    return extractor.extract(Record("p", content, "application/pdf", 0, len(content)), Limits())


def test_text_without_heads_and_hyphens(extractor: PdfExtractor, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf_of(PAGES))
    (record,) = PdfReader().read(tmp_path / "a.pdf", 0, None, Limits())
    assert isinstance(record, Record)
    found = extractor.extract(record, Limits())
    assert isinstance(found, Extraction) and found.meta == {"pages": 4}
    assert found.text == "\n\n".join(
        f"Page {word} tells of information of {word} that runs on."
        for word in ("alpha", "beta", "gamma", "delta")
    )


def test_refusals(extractor: PdfExtractor) -> None:
    def reason(content: bytes) -> str:
        found = extract(extractor, content)
        return found.reason if isinstance(found, Refused) else "text"

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf_of(PAGES)))
    writer.encrypt("secret", algorithm="RC4-128")
    locked = io.BytesIO()
    writer.write(locked)
    assert reason(locked.getvalue()) == "extract.encrypted"
    assert reason(pdf_of(PAGES)[:300]) == "extract.damaged"
    assert reason(b"%PDF-1.4 nonsense") == "extract.damaged"
    assert reason(pdf_of([[]])) == "extract.empty"
    assert reason(pdf_of([["x"]] * 51)) == "extract.too_many_pages"
    assert reason(pdf_of(PAGES)) == "text"


def test_a_file_that_does_not_end_is_killed_and_the_next_one_read() -> None:
    slow = pdf_of([[]], b"BT /F1 12 Tf " + b"(abc) Tj 1 0 Td " * 2_000_000 + b"ET")
    hasty = PdfExtractor(pdf=PdfSettings(max_seconds=2.0))
    assert isinstance(extract(hasty, pdf_of(PAGES)), Extraction)
    start = time.monotonic()
    found = extract(hasty, slow)
    assert isinstance(found, Refused) and found.reason == "extract.timeout"
    assert "2 seconds of CPU time" in found.detail
    assert time.monotonic() - start < 40  # a busy machine gives it less than a core
    assert isinstance(extract(PdfExtractor(), pdf_of(PAGES)), Extraction)


def test_a_stream_that_unpacks_to_gigabytes_is_refused() -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(10)) + packer.flush()
    small = PdfExtractor(pdf=PdfSettings(max_memory_mib=400, max_seconds=20))
    found = extract(small, pdf_of([[]], bomb, b"/Filter /FlateDecode "))
    assert isinstance(found, Refused)
    assert found.reason in ("extract.memory", "extract.damaged", "extract.empty", "extract.crashed")


def test_what_is_no_pdf_is_not_read(tmp_path: Path) -> None:
    for name, content, reason in (
        ("a.pdf", b"<html>", "read.not_pdf"),
        ("b.pdf", b"%PDF-" + bytes(2000), "read.record_bytes"),
    ):
        (tmp_path / name).write_bytes(content)
        (item,) = PdfReader().read(tmp_path / name, 0, None, Limits(record_bytes=1000))
        assert isinstance(item, Refused) and item.reason == reason
    (item,) = PdfReader().read(tmp_path / "none.pdf", 0, None, Limits())
    assert isinstance(item, Refused) and item.reason == "read.damaged"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8), st.integers(10, 3000))
def test_damage_never_raises(extractor: PdfExtractor, changes: list[tuple[int, int]], length: int) -> None:
    raw = bytearray(pdf_of(PAGES))
    for at, value in changes:
        raw[at % len(raw)] = value
    assert isinstance(extract(extractor, bytes(raw[:length])), Extraction | Refused)
