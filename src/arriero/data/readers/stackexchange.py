"""Questions of a Stack Exchange dump, each with its answers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from arriero.data.records import Limits, Record, Refused
from arriero.data.sourcetree.unpack import ENDINGS, DamagedError, ExpansionError, unpacked
from arriero.data.stackexchange.index import ANSWER, QUESTION, PostIndex, build, entry_of, index_of, number_of
from arriero.data.stackexchange.posts import (
    CONTENT_TYPE,
    Answer,
    Question,
    answer_of,
    license_of_all,
    meta_of,
    question_of,
)
from arriero.data.stackexchange.rows import PROLOG_BYTES, Row, attributes, prolog_problem, scan
from arriero.data.stackexchange.sites import SITE_PRESETS, site_of
from arriero.errors import ArrieroError, did_you_mean

_BLOCK = 1 << 20
_POST_TYPES = {"3": "orphaned tag wiki", "4": "tag wiki excerpt", "5": "tag wiki", "6": "nomination"}


class StackExchangeReader:
    """Reads ``Posts.xml`` of a site (also ``.xml.gz``, .bz2, .xz, .zst), or the dump's folder that holds it.

    Two passes: the first writes an index of all posts into a scratch file, the second goes through the questions of
    a split and fetches their answers by offset, so memory stays flat however large the dump. Compressed dumps are
    unpacked to a scratch file first and cannot be cut; a large dump is better unpacked once.
    """

    def __init__(
        self,
        index_folder: Path | str | None = None,
        site: str | None = None,
        sites: Literal["largest-28"] | Sequence[str] | None = None,
    ) -> None:
        """``index_folder``: where indexes are kept (default: the user's own among the temporary files); ``site``: the
        address, where the path does not say it; ``sites``: a preset's name or addresses; dumps of other sites are
        refused as a whole.

        Raises:
            ArrieroError: no preset of that name.
        """
        if isinstance(sites, str):
            if sites not in SITE_PRESETS:
                raise ArrieroError(f"there is no list of sites '{sites}'{did_you_mean(sites, SITE_PRESETS)}")
            sites = SITE_PRESETS[sites]
        self._index_folder = Path(index_folder) if index_folder else None
        self._site = site
        self._sites = None if sites is None else frozenset(sites)

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        """Byte ranges of a plain file; one range of a compressed one.

        Raises:
            ArrieroError: a folder without Posts.xml, or a 7z archive.
        """
        path = _posts_file(path)
        if path.suffix == ".7z":
            raise ArrieroError(
                f"{path} is a 7z archive, which is not read here: unpack it with 7z x {path.name}"
            )
        size = path.stat().st_size
        if path.suffix in ENDINGS or size <= split_bytes:
            return [(0, None)]
        starts = range(0, size, split_bytes)
        return [(start, min(start + split_bytes, size)) for start in starts]

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        """One record a question whose row begins in the range; posts of other kinds, answers to questions that are
        not there and rows that cannot be read are refused one by one."""
        try:
            path = _posts_file(path)
            if path.suffix == ".7z":
                yield Refused(
                    "7z", "read.compression", "a 7z archive; unpack it first", 0, path.stat().st_size
                )
                return
            with _opened(path, limits) as (file, is_content):
                yield from self._read(path, file, is_content, start, end, limits)
        except ExpansionError as error:
            yield Refused("posts", "read.expansion", str(error), start, 0, True)
        except (DamagedError, ArrieroError, OSError) as error:
            yield Refused("posts", "read.damaged", str(error), start, 0)

    def _read(
        self, path: Path, file: BinaryIO, is_content: bool, start: int, end: int | None, limits: Limits
    ) -> Iterator[Record | Refused]:
        file.seek(0)
        head = file.read(PROLOG_BYTES)
        problem = prolog_problem(head)
        if problem:
            if start == 0:
                yield Refused("posts", *problem, 0, len(head), is_content)
            return
        site = self._site or site_of(path)
        if self._sites is not None and site not in self._sites:
            if start == 0:
                size = path.stat().st_size
                yield Refused("posts", "read.site", f"{site or 'an unknown site'} is not wanted", 0, size)
            return
        with tempfile.TemporaryDirectory() as scratch:
            index = self._index(path, file, is_content, Path(scratch), limits)
            with _second(file, path, is_content) as answers:
                source = _Source(answers, index, site, is_content, limits)
                for row in scan(file, start, end, limits.record_bytes):
                    found = source.item_of(row)
                    if found is not None:
                        yield found

    def _index(
        self, path: Path, file: BinaryIO, is_content: bool, scratch: Path, limits: Limits
    ) -> PostIndex:
        if not is_content:
            return index_of(path, limits.record_bytes, self._index_folder)
        build(file, scratch / "index", limits.record_bytes)
        return PostIndex(scratch / "index")


class _Seekable(Protocol):
    def seek(self, offset: int, /) -> object: ...

    def read(self, count: int, /) -> bytes: ...


class _Source:
    """Turns rows into records; fetches the answers of a question from the dump."""

    def __init__(
        self, file: _Seekable, index: PostIndex, site: str | None, is_content: bool, limits: Limits
    ) -> None:
        self._file, self._index, self._site = file, index, site
        self._is_content, self._limits = is_content, limits

    def item_of(self, row: Row) -> Record | Refused | None:
        """What a row gives; None for an answer, which its question brings along."""
        if row.problem:
            return self._refuse(row, row.problem, row.detail)
        entry = entry_of(row.data)
        if entry is not None and entry[1] == ANSWER:
            return self._orphan(row, entry[0])
        values = attributes(row)
        if isinstance(values, tuple):
            return self._refuse(row, *values)
        kind = values.get("PostTypeId")
        if kind == "1":
            return self._question(row, values)
        if kind == "2":
            return self._refuse(row, "read.malformed", "an answer whose Id or ParentId is no number")
        named = _POST_TYPES.get(kind or "", "another kind of post")
        return self._refuse(row, "read.post_type", f"PostTypeId {kind}: {named}")

    def _orphan(self, row: Row, parent: int) -> Refused | None:
        known = self._index.posts_of(parent)
        if len(known) and known["kind"][0] == QUESTION:
            return None
        return self._refuse(row, "read.orphan_answer", f"question {parent} is not in the dump")

    def _question(self, row: Row, values: dict[str, str]) -> Record | Refused:
        number = number_of(values.get("Id"))
        if number is None:
            return self._refuse(row, "read.malformed", f"a question's Id is {values.get('Id')!r}")
        entries = self._index.posts_of(number)
        entries = entries[entries["kind"] == ANSWER]
        size = row.length + int(entries["length"].sum(dtype=np.int64))
        if size > self._limits.record_bytes:
            return self._refuse(row, "read.record_bytes", f"a question with answers of {size:,} bytes")
        answers, problems = self._answers(entries)
        question = question_of(values, answers, problems)
        return self._record(row, question)

    def _answers(self, entries: NDArray[np.void]) -> tuple[list[Answer], list[str]]:
        answers, problems = [], []
        for entry in entries:
            self._file.seek(int(entry["offset"]))
            data = self._file.read(int(entry["length"]))
            values = attributes(Row(int(entry["offset"]), len(data), data))
            try:
                if isinstance(values, tuple):
                    raise ValueError(values[1])
                answers.append(answer_of(values))
            except ValueError as error:
                problems.append(f"answer {int(entry['post'])}: {error}")
        return answers, problems

    def _record(self, row: Row, question: Question) -> Record:
        license = license_of_all(question)
        return Record(
            id=f"{self._site or 'stackexchange'}/questions/{question.id}",
            content=question.to_json(),
            content_type=CONTENT_TYPE,
            offset=row.offset,
            length=row.length,
            in_content=self._is_content,
            url=f"https://{self._site}/questions/{question.id}" if self._site else None,
            date=question.date or None,
            license=license or None,
            license_evidence="declared: licence and dates of the posts" if license else None,
            meta=meta_of(question),
        )

    def _refuse(self, row: Row, reason: str, detail: str) -> Refused:
        return Refused(f"row@{row.offset}", reason, detail, row.offset, row.length, self._is_content)


def _posts_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("Posts.xml", *("Posts.xml" + ending for ending in ENDINGS)):
        if (path / name).is_file():
            return path / name
    raise ArrieroError(f"{path} holds no Posts.xml (nor Posts.xml.gz, .bz2, .xz, .zst)")


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[tuple[BinaryIO, bool]]:
    """The dump as a file in which one can seek, and whether that is unpacked content."""
    if path.suffix not in ENDINGS:
        with path.open("rb") as file:
            yield file, False
        return
    with tempfile.TemporaryFile() as spool, unpacked(path, limits.expansion) as content:
        shutil.copyfileobj(content, spool, _BLOCK)
        spool.seek(0)
        yield spool, True


@contextmanager
def _second(file: BinaryIO, path: Path, is_content: bool) -> Iterator[_Seekable]:
    """Another handle of the dump, with its own place and its own buffer."""
    if not is_content:
        with path.open("rb", buffering=0) as other:
            yield other
    else:
        yield _Reopened(file)


class _Reopened:
    """Reads of a file that leave its place as it was; one handle serves the scan and the answers."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at = file, 0

    def seek(self, offset: int) -> None:
        self._at = offset

    def read(self, count: int) -> bytes:
        place = self._file.tell()
        self._file.seek(self._at)
        data = self._file.read(count)
        self._file.seek(place)
        return data
