"""How fast Stack Exchange dumps, source code, books and PDF files become texts: MB a CPU second of one process.

python benchmarks/sources.py                                  # this repository's own samples
python benchmarks/sources.py --code FOLDER --books FOLDER --pdf FOLDER --stackexchange Posts.xml
"""

from __future__ import annotations

import argparse
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from arriero.data.code.headers import license_headers
from arriero.data.extract.books import BookExtractor
from arriero.data.extract.code import CodeExtractor
from arriero.data.extract.pdf import PdfExtractor
from arriero.data.extract.stackexchange import StackExchangeExtractor
from arriero.data.readers.books import BookReader
from arriero.data.readers.code import CodeReader
from arriero.data.readers.pdf import PdfReader
from arriero.data.readers.stackexchange import StackExchangeReader
from arriero.data.records import Extraction, Extractor, Limits, Reader, Record, Refused
from arriero.data.stackexchange.index import index_of

ROOT = Path(__file__).resolve().parents[1]
DUMP = ROOT / "tests/data/curation/stackexchange/coffee.stackexchange.com/Posts.xml"
LIMITS = Limits()
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stackexchange", type=Path, help="Posts.xml (default: a sample, repeated to 20 MB)")
    parser.add_argument("--code", type=Path, default=ROOT / "src", help="a folder or an archive")
    parser.add_argument("--books", type=Path, help="a folder of .txt or .txt.gz")
    parser.add_argument("--pdf", type=Path, help="a folder of .pdf")
    given = parser.parse_args()
    print(f"{'source':<15}{'step':<12}{'MB':>9}{'CPU s':>9}{'MB/s':>9}   what")
    with tempfile.TemporaryDirectory() as scratch:
        stack_exchange(given.stackexchange or repeated(Path(scratch) / "Posts.xml"), Path(scratch))
    code(given.code)
    if given.books:
        simple("books", BookReader(), BookExtractor(), files_of(given.books, "*.txt*"))
    if given.pdf:
        simple("pdf", PdfReader(), PdfExtractor(), files_of(given.pdf, "*.pdf"))


def stack_exchange(dump: Path, scratch: Path) -> None:
    size = dump.stat().st_size
    report("stackexchange", "index", size, lambda: index_of(dump, LIMITS.record_bytes, scratch), "one pass")
    reader = StackExchangeReader(scratch)
    found = report("stackexchange", "read", size, lambda: list(reader.read(dump, 0, None, LIMITS)), "")
    extract("stackexchange", StackExchangeExtractor(), found)


def code(path: Path) -> None:
    found = report(
        "code", "read", None, lambda: list(CodeReader().read(path, 0, None, LIMITS)), "with licences"
    )
    texts = extract("code", CodeExtractor(), found)
    size = sum(len(text) for text in texts)
    report("code", "headers", size, lambda: [license_headers(text) for text in texts], "licence headers")


def simple(name: str, reader: Reader, extractor: Extractor, paths: list[Path]) -> None:
    def read() -> Iterator[Record | Refused]:
        for path in paths:
            yield from reader.read(path, 0, None, LIMITS)

    extract(name, extractor, report(name, "read", None, lambda: list(read()), f"{len(paths)} files"))


def extract(name: str, extractor: Extractor, found: list[Record | Refused]) -> list[str]:
    """Texts of all records; prints the rate and what was refused."""
    records = [item for item in found if isinstance(item, Record)]
    size = bytes_of(found)

    def run() -> list[Extraction | Refused]:
        made = [extractor.extract(record, LIMITS) for record in records]
        if isinstance(extractor, PdfExtractor):
            extractor.close()
        return made

    made = report(name, "extract", size, run, f"{len(records)} records")
    texts = [item.text for item in made if isinstance(item, Extraction)]
    refused = len(made) - len(texts)
    print(f"{'':<15}{'':<12}{sum(map(len, texts)) / 1e6:>9.2f} million characters of text, {refused} refused")
    return texts


def report(name: str, step: str, size: int | None, run: Callable[[], T], what: str) -> T:
    """Run a step and print its rate; without a size, by the bytes of the records that it gives."""
    start = cpu_seconds()
    made = run()
    seconds = max(cpu_seconds() - start, 1e-9)
    size = bytes_of(made) if size is None and isinstance(made, list) else size or 0
    print(f"{name:<15}{step:<12}{size / 1e6:>9.2f}{seconds:>9.2f}{size / 1e6 / seconds:>9.1f}   {what}")
    return made


def bytes_of(found: list[Record | Refused]) -> int:
    return sum(len(item.content) for item in found if isinstance(item, Record))


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def repeated(path: Path) -> Path:
    """The sample dump again and again, 20 MB in all, each time with other numbers."""
    raw = DUMP.read_bytes()
    rows = raw[raw.index(b"<row") : raw.index(b"</posts>")]
    number = re.compile(rb'(\s(?:Id|ParentId|AcceptedAnswerId)=")(\d+)')
    with path.open("wb") as out:
        out.write(b"<posts>\n")
        for copy in range(20_000_000 // len(rows)):
            moved = copy * 1_000_000
            out.write(number.sub(lambda found, by=moved: found[1] + b"%d" % (int(found[2]) + by), rows))
        out.write(b"</posts>\n")
    return path


def files_of(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.rglob(pattern))
    if not found:
        raise SystemExit(f"{folder} holds no {pattern}")
    return found


if __name__ == "__main__":
    main()
