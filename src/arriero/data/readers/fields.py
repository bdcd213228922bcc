"""A record's text and what else curation keeps of it, from the fields of a JSON object or a table's row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from string import Formatter
from typing import Any

from arriero.data.readers.sources import Problem
from arriero.data.records import Record
from arriero.errors import ArrieroError, did_you_mean


class Fields:
    """Takes the text of ``text_field``, or fills in ``template`` (``{name}`` for a field).

    Raises:
        ArrieroError: the template names no fields.
    """

    def __init__(self, text_field: str = "text", template: str | None = None) -> None:
        self._template = template
        self.names = [text_field]
        if template is not None:
            self.names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
            if not self.names or not all(name.isidentifier() for name in self.names):
                raise ArrieroError("template should name keys in braces, e.g. 'Question: {question}'")

    def missing(self, names: Collection[str]) -> Problem | None:
        """What a record or table with fields of these names lacks."""
        for name in self.names:
            if name not in names:
                return Problem(
                    "read.field", f"there is no field '{name}'{did_you_mean(name, map(str, names))}"
                )
        return None

    def text(self, record: Mapping[str, Any]) -> str | Problem:
        """The text, or why there is none."""
        values = {}
        for name in self.names:
            if name not in record:
                return Problem(
                    "read.field", f"there is no field '{name}'{did_you_mean(name, map(str, record))}"
                )
            value = record[name]
            if isinstance(value, bytes):  # a column of bytes, as many writers make
                try:
                    value = value.decode("utf-8")
                except UnicodeDecodeError as error:
                    return Problem("read.utf8", f"the field '{name}' is not UTF-8 (its byte {error.start})")
            if not isinstance(value, str):
                return Problem(
                    "read.field", f"the field '{name}' should be a string, not {type(value).__name__}"
                )
            values[name] = value
        text = values[self.names[0]] if self._template is None else self._template.format(**values)
        try:
            text.encode()
        except UnicodeEncodeError:
            return Problem("read.surrogate", "not Unicode text: it holds half of a surrogate pair")
        if "\0" in text:
            return Problem("read.nul", f"{text.count(chr(0))} NUL characters")
        return text

    @staticmethod
    def record(
        id: str, text: str, content_type: str, record: Mapping[str, Any], where: tuple[int, int, bool]
    ) -> Record:
        """The record with its text; ``url``, ``license``, ``lang``, ``date`` and ``id`` are kept where they are strings."""
        url, license, lang, date = (
            value if isinstance(value := record.get(key), str) else None
            for key in ("url", "license", "lang", "date")
        )
        meta = {"id": record["id"]} if isinstance(record.get("id"), str | int) else {}
        evidence = "tag: the record's field license" if license else None
        return Record(
            id, text, content_type, *where, url=url, date=date, license=license, license_evidence=evidence, lang=lang,
            meta=meta,
        )  # fmt: skip
