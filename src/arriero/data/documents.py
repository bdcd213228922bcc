"""Documents, and reading them from raw files: JSONL, plain text, Parquet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from arriero.artifacts import InputPath
from arriero.data.files import Line, iter_lines, needs_extra
from arriero.data.jsonl import NotUnicodeError, parse_line
from arriero.data.textsplit import split_text, split_text_problem
from arriero.errors import ArrieroError, did_you_mean

OnBadUtf8 = Literal["error", "drop"]


@dataclass(frozen=True)
class Document:
    """A text and where it comes from. The keys of a corpus line, in this order."""

    id: str
    text: str
    source: str
    url: str | None = None
    license: str = "unknown"
    lang: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "id": self.id, "text": self.text, "source": self.source, "url": self.url, "license": self.license,
            "lang": self.lang, "meta": dict(self.meta),
        }  # fmt: skip

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Document:
        """From a JSON object that :meth:`record` made."""
        return cls(**record)


@dataclass(frozen=True)
class Undecodable:
    """A document that is not Unicode text, dropped on demand. ``head`` shows its beginning."""

    id: str
    source: str
    bytes: int
    head: str


class Source(BaseModel):
    """One raw file of documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: InputPath = Field(description="the file: .jsonl, .txt (each also .gz or .zst), .parquet")
    name: str = Field(
        default="",
        pattern=r"^[\w.\-]*$",
        description="short name, unique in the corpus; by default the file's name",
    )
    license: str = Field(description="SPDX identifier or the licence's name; 'unknown' when nobody says")
    url: str | None = Field(default=None, description="where the file comes from")
    format: Literal["auto", "jsonl", "text", "parquet"] = Field(
        default="auto", description="by default from the ending"
    )
    split: str = Field(
        default="file", description="text files: file, line, blank_lines:N, or marker:TEXT between documents"
    )
    text_field: str = Field(
        default="text", min_length=1, description="JSONL and Parquet: the key that holds the text"
    )
    template: str | None = Field(
        default=None,
        description="JSONL and Parquet: text made of several keys, e.g. 'Question: {q}\\nAnswer: {a}'",
    )
    max_bytes: int | None = Field(default=None, ge=1, description="stop after so many UTF-8 bytes of text")
    on_bad_utf8: OnBadUtf8 = Field(default="error", description="what to do with text that is not UTF-8")

    @model_validator(mode="before")
    @classmethod
    def _name_of_file(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("name") and value.get("path"):
            return {**value, "name": re.sub(r"[^\w.\-]", "_", Path(str(value["path"])).name.split(".")[0])}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        problem = split_text_problem(self.split)
        if problem:
            raise ValueError(problem)
        self.kind  # noqa: B018  an ending that says nothing is refused here, not in the middle of the run
        if self.template is not None:
            names = [name for _, name, _, _ in Formatter().parse(self.template) if name is not None]
            if not names or not all(name.isidentifier() for name in names):
                raise ValueError("template should name keys in braces, e.g. 'Question: {question}'")
        return self

    @property
    def kind(self) -> Literal["jsonl", "text", "parquet"]:
        """The format, by the file's ending unless it is given."""
        if self.format != "auto":
            return self.format
        endings = [s for s in self.path.suffixes if s not in (".gz", ".zst")][-1:]
        known: dict[str, Literal["jsonl", "text", "parquet"]] = {
            ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text", ".text": "text", ".md": "text", ".parquet": "parquet",
        }  # fmt: skip
        if not endings or endings[0] not in known:
            raise ValueError(
                f"the ending of {self.path.name} does not say its format; set format to jsonl, text or parquet"
            )
        return known[endings[0]]


def read_source(source: Source, raw_limit: int | None = None) -> Iterator[Document | Undecodable]:
    """Documents of a source in their order; ids are ``name:number`` from 0, counted before anything is dropped.

    ``raw_limit``: read no further than so many bytes of the (decompressed) file, to the end of a line; a glance for
    planning.

    Raises:
        ArrieroError: the file cannot be read, or a line of it cannot be understood (names the line).
    """
    taken = 0
    for number, item in enumerate(_items(source, raw_limit)):
        id = f"{source.name}:{number}"
        if isinstance(item, bytes):
            document: Document | Undecodable = Undecodable(
                id, source.name, len(item), item[:200].decode("utf-8", "backslashreplace")
            )
            taken += len(item)
        else:
            text, record = item
            document = _document(source, id, text, record)
            taken += len(text.encode())
        if source.max_bytes is not None and taken > source.max_bytes:
            return
        yield document


def _document(source: Source, id: str, text: str, record: Mapping[str, Any]) -> Document:
    url, license, lang = (
        value if isinstance(value := record.get(key), str) else None for key in ("url", "license", "lang")
    )
    meta = {"id": record["id"]} if isinstance(record.get("id"), str | int) else {}
    return Document(id, text, source.name, url or source.url, license or source.license, lang, meta)


_Item = bytes | tuple[str, Mapping[str, Any]]
"""Text with its record, or the raw bytes of a text that cannot be decoded."""


def _items(source: Source, raw_limit: int | None) -> Iterator[_Item]:
    if source.kind == "parquet":
        return _parquet_items(source, raw_limit)
    lines = iter_lines(Path(source.path))
    if raw_limit is not None:
        lines = takewhile(lambda line: line.offset < raw_limit, lines)
    return _text_items(source, lines) if source.kind == "text" else _jsonl_items(source, lines)


def _text_items(source: Source, lines: Iterator[Line]) -> Iterator[_Item]:
    for group in split_text(lines, source.split):
        data = b"\n".join(line.data for line in group)
        try:
            yield data.decode("utf-8"), {}
        except UnicodeDecodeError:
            if source.on_bad_utf8 == "error":
                raise _bad_text(source.path, group) from None
            yield data


def _bad_text(path: Path, lines: list[Line]) -> ArrieroError:
    for line in lines:
        try:
            line.data.decode("utf-8")
        except UnicodeDecodeError as error:
            return ArrieroError(
                f"{path} line {line.number} is not UTF-8 (byte {line.offset + error.start});"
                " convert the file, or set on_bad_utf8: drop"
            )
    raise AssertionError("a line that cannot be decoded is among them")


def _jsonl_items(source: Source, lines: Iterator[Line]) -> Iterator[_Item]:
    path = Path(source.path)
    for line in lines:
        try:
            record = parse_line(path, line)
            if record is None:
                continue
            text = _text_of(source, record, f"{path} line {line.number}")
        except NotUnicodeError:
            if source.on_bad_utf8 == "error":
                raise
            yield line.data
            continue
        yield text, record


def _parquet_items(source: Source, raw_limit: int | None) -> Iterator[_Item]:
    parquet = needs_extra("pyarrow.parquet", source.path)
    try:
        file = parquet.ParquetFile(source.path)
    except FileNotFoundError:
        raise ArrieroError(f"there is no file {source.path}") from None
    except Exception as error:  # pyarrow's own errors derive from several bases
        raise ArrieroError(f"{source.path} is no Parquet file: {str(error).splitlines()[0]}") from None
    number = read = 0
    for batch in file.iter_batches(batch_size=1024):
        for record in batch.to_pylist():
            number += 1
            text = _text_of(source, record, f"{source.path} row {number}")
            read += len(text)
            yield text, record
            if raw_limit is not None and read >= raw_limit:
                return


def _text_of(source: Source, record: Mapping[str, Any], where: str) -> str:
    """The text of a record: its text field, or the template filled in."""
    if source.template is None:
        text = _field(record, source.text_field, where)
    else:
        names = [name for _, name, _, _ in Formatter().parse(source.template) if name is not None]
        text = source.template.format(**{name: _field(record, name, where) for name in names})
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotUnicodeError(f"{where} is not Unicode text: it holds half of a surrogate pair") from None
    return text


def _field(record: Mapping[str, Any], name: str, where: str) -> str:
    if name not in record:
        raise ArrieroError(f"{where} has no field '{name}'{did_you_mean(name, record)}")
    value = record[name]
    if not isinstance(value, str):
        raise ArrieroError(f"{where}: the field '{name}' should be a string, not {type(value).__name__}")
    return value
