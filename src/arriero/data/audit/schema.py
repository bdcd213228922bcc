"""Columns of the ledger and of what the global steps decide: one row for every record read, kept or not.

``parts/<part>/ledger.parquet`` has :func:`ledger_schema`; ``decisions/<part>.parquet`` has :data:`DECISIONS`;
``line_edits/<part>.parquet`` has :data:`LINE_EDITS`. Every field carries its description as the metadata ``doc``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

FORMAT = b"arriero.ledger/1"
FACT = "f_"
"""Before the name of every fact of the text."""
MEASURE = "m_"
"""Before the name of every figure that a filter measured; NaN where it was not measured."""

STAGES = (
    "read", "extract", "list", "license", "optout", "language", "rules", "pii", "perplexity", "classifier",
)  # fmt: skip
"""Values of ``stage`` of a document that a worker dropped, in the order in which reports name them."""
STEPS = (
    "duplicate.exact", "duplicate.near", "duplicate.book", "duplicate.semantic", "duplicate.line",
    "duplicate.paragraph", "duplicate.substring", "contaminated",
)  # fmt: skip
"""Values of ``step`` of a document that a global step dropped, in the order in which the steps run."""

_LABEL = pa.dictionary(pa.int32(), pa.string())
EDIT = pa.struct(
    [("start", pa.int32()), ("end", pa.int32()), ("replacement", pa.string()), ("reason", pa.string())]
)
PII = pa.struct([("kind", pa.string()), ("count", pa.int32())])
DIGEST_BYTES = 16


class FactLike(Protocol):
    """A fact as ``arriero.data.facts.FACTS`` lists it."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def doc(self) -> str: ...


def _field(name: str, type: pa.DataType, doc: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, type, nullable, {b"doc": doc.encode()})


BASE: tuple[pa.Field, ...] = (
    _field("id", pa.string(), "identifier of the document in the corpus", False),
    _field("source", _LABEL, "name of the source in the recipe", False),
    _field("file", _LABEL, "raw file, below the source's folder, with forward slashes", False),
    _field("offset", pa.int64(), "first byte of the record in the file (or in its content: in_content)", False),
    _field("length", pa.int64(), "bytes of the record, counted where offset is counted", False),
    _field("in_content", pa.bool_(), "offset and length count bytes after decompression of the file", False),
    _field("url", pa.string(), "address of the page, where the record has one"),
    _field("date", pa.string(), "date of the record as the file gives it"),
    _field("license", pa.string(), "SPDX identifier of the document's licence"),
    _field("license_evidence", pa.string(), "tag, text, declared or unknown, and where it was found"),
    _field("extractor", _LABEL, "program, version and settings that made the text"),
    _field("lang", pa.string(), "language, ISO 639"),
    _field("lang_score", pa.float32(), "probability of that language, 0 to 1"),
    _field("raw_bytes", pa.int64(), "bytes of the record's content, decompressed", False),
    _field("text_bytes", pa.int64(), "UTF-8 bytes of the extracted text, before edits; 0 for a refused record", False),
    _field("kept_bytes", pa.int64(), "UTF-8 bytes of the text after edits; 0 for a refused record", False),
    _field("stage", pa.string(), "where the worker dropped it; empty: kept by the rules", False),
    _field("reason", pa.string(), "the rule that it broke, e.g. gopher.min_words; empty: none", False),
    _field("value", pa.float64(), "the figure that the reason is about"),
    _field("threshold", pa.float64(), "what that figure was compared with"),
    _field("near_miss", pa.bool_(), "value lies so near to threshold that a small change of it changes the verdict", False),
    _field("digest", pa.binary(DIGEST_BYTES), "128-bit hash of the normalised text; null for a refused record"),
    _field("edits", pa.list_(EDIT), "what was cut or masked: characters of the extracted text, replacement, reason"),
    _field("pii", pa.list_(PII), "personal data found and masked: kinds and counts, never values"),
    _field("meta", pa.string(), "what else the record says of itself, as JSON; detail of a refusal"),
)  # fmt: skip
"""Columns that every ledger has, before the facts and the filters' figures."""

DECISIONS = pa.schema(
    [
        _field("row", pa.int32(), "row of the document in its part's ledger", False),
        _field("step", pa.string(), "the step that dropped it, e.g. duplicate.near", False),
        _field(
            "survivor", pa.string(), "id of the document that stays in its place; of the benchmark's item"
        ),
        _field("cluster", pa.int64(), "smallest global row number of the cluster of duplicates"),
        _field("cluster_size", pa.int32(), "documents of the cluster, the survivor counted"),
        _field("value", pa.float64(), "similarity or overlap, as measured"),
        _field("threshold", pa.float64(), "similarity or overlap from which a document is dropped"),
    ]
)
"""One row for a dropped document."""

LINE_EDITS = pa.schema(
    [
        _field("row", pa.int32(), "row of the document in its part's ledger", False),
        _field(
            "start", pa.int32(), "first character of the cut, in the text after the worker's edits", False
        ),
        _field("end", pa.int32(), "the character after the cut", False),
        _field("reason", pa.string(), "the step that cut it, e.g. duplicate.line", False),
    ]
)
"""One row for a span that a global step cut out of a text."""


def ledger_schema(facts: Iterable[FactLike], measures: Sequence[str] = ()) -> pa.Schema:
    """The ledger's columns: :data:`BASE`, then ``f_<name>`` for every fact, then ``m_<name>`` of ``measures``.

    Args:
        facts: ``arriero.data.facts.FACTS``; a fact's ``dtype`` is a numpy name (float32, int32, ...).
        measures: names of the filters' figures, with or without their ``m_``.
    """
    columns = [*BASE]
    for fact in facts:
        column = _field(FACT + fact.name, pa.from_numpy_dtype(fact.dtype), fact.doc)
        columns.append(column.with_metadata({**column.metadata, b"unit": fact.unit.encode()}))
    for measure in measures:
        name = measure.removeprefix(MEASURE)
        columns.append(_field(MEASURE + name, pa.float32(), f"{name.replace('_', ' ')}; NaN: not measured"))
    return pa.schema(columns, metadata={b"format": FORMAT})


def describe(schema: pa.Schema) -> Mapping[str, str]:
    """Description of every column, by its name."""
    return {field.name: (field.metadata or {}).get(b"doc", b"").decode() for field in schema}
