"""A source of raw documents: where its files lie, what they are, and what is said of all of them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from arriero.artifacts import InputTree
from arriero.data.readers import format_of, reader_class, reader_for, resolve_format
from arriero.data.records import Reader
from arriero.data.textsplit import split_text_problem
from arriero.errors import ArrieroError, did_you_mean

OnBadUtf8 = Literal["error", "drop"]


class Source(BaseModel):
    """A raw file of documents, or a folder or pattern of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: InputTree = Field(
        description="a file, a folder, or a pattern such as dumps/*.warc.gz; compressed ones (.gz, .zst, .bz2) too"
    )
    name: str = Field(
        default="",
        pattern=r"^[\w.\-]*$",
        description="short name, unique in the corpus; by default the file's name",
    )
    license: str = Field(description="SPDX identifier or the licence's name; 'unknown' when nobody says")
    url: str | None = Field(default=None, description="where the file comes from")
    format: str = Field(
        default="auto",
        description="by default from the ending: jsonl, text, parquet, warc, wet, html, archive; or wikipedia, arxiv,"
        " stackexchange, code, book, pdf",
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
    options: dict[str, Any] = Field(
        default={}, description="what else the format's reader takes (docs/curation.md lists it)"
    )
    max_bytes: int | None = Field(default=None, ge=1, description="stop after so many UTF-8 bytes of text")
    on_bad_utf8: OnBadUtf8 = Field(
        default="drop", description="text that is not UTF-8: drop it with a reason, or stop with an error"
    )

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
        if self.template is not None:
            names = [name for _, name, _, _ in Formatter().parse(self.template) if name is not None]
            if not names or not all(name.isidentifier() for name in names):
                raise ValueError("template should name keys in braces, e.g. 'Question: {question}'")
        self._check_format()
        return self

    def _check_format(self) -> None:
        """What can be said without looking at the disk is said here, not in the middle of the run."""
        many = self.format == "auto" and (self.path.is_dir() or set(str(self.path)) & set("*?["))
        try:
            format = None if many else resolve_format(self.path, self.format)
            taken = {} if format is None else _options(format)
        except ArrieroError as error:
            raise ValueError(str(error)) from None
        for key in self.options:
            if key not in taken:
                what = f"format {format}" if format else "format auto"
                raise ValueError(f"{what} has no option '{key}'{did_you_mean(key, taken)}")

    def files(self) -> list[tuple[str, Path]]:
        """(name below :meth:`InputTree.base`, file) of every file that is read, by name.

        Raises:
            ArrieroError: there is none.
        """
        if (
            self.path.is_dir()
            and self.format != "auto"
            and getattr(reader_class(self.format), "folders", False)
        ):
            return [(".", Path(self.path))]
        found = [(name, Path(path)) for name, path in self.path.files()]
        if self.format == "auto" and not self.path.is_file():
            found = [(name, path) for name, path in found if format_of(path) is not None]
        if not found:
            raise ArrieroError(f"{self.path} has no file of a known format; set format")
        return found

    def reader(self, path: Path) -> Reader:
        """What reads one of the files.

        Raises:
            ArrieroError: an option makes no sense, or a library is missing.
        """
        own = {key: getattr(self, key) for key in ("split", "text_field", "template", "on_bad_utf8")}
        return reader_for(path, self.format, own | self.options)


def _options(format: str) -> list[str]:
    """What a format's reader takes, besides the source's own settings."""
    own = {*Source.model_fields, "self"}
    return [name for name in inspect.signature(reader_class(format)).parameters if name not in own]
