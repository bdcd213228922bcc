"""A figure of the ledger for the documents of a corpus's file, in one walk over both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arriero.data.audit.ledger import PARTS
from arriero.data.audit.schema import FACT, MEASURE
from arriero.data.corpus import file_documents
from arriero.data.pipeline.part import Part, parts_of
from arriero.errors import ArrieroError, DamagedArtifactError, did_you_mean


def ledger_parts(corpus: Path) -> list[Part]:
    """The parts of a curated corpus, in order.

    Raises:
        ArrieroError: the corpus has none.
    """
    folder = Path(corpus) / PARTS
    parts = parts_of(folder) if folder.is_dir() else []
    if not parts:
        raise ArrieroError(
            f"{corpus} has no ledger ({PARTS}/), so nothing is known of its documents' quality;"
            " make it with the stage curate"
        )
    return parts


def column_of(part: Part, figure: str) -> str:
    """The ledger's column of a figure, which may be named without ``m_`` or ``f_``.

    Raises:
        ArrieroError: there is none, or it holds no numbers.
    """
    import pyarrow.parquet as pq

    from arriero.data.pipeline.part import LEDGER

    schema = pq.read_schema(part.folder / LEDGER)
    for name in (figure, MEASURE + figure, FACT + figure):
        if name in schema.names:
            kind = schema.field(name).type
            if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
                raise ArrieroError(f"the ledger's column {name} holds no numbers")
            return name
    measured = [name.removeprefix(MEASURE) for name in schema.names if name.startswith(MEASURE)]
    facts = [name.removeprefix(FACT) for name in schema.names if name.startswith(FACT)]
    hint = did_you_mean(figure, measured + facts)
    if not hint:
        hint = (
            f"; measured: {', '.join(sorted(measured))}"
            if measured
            else "; curate with classifiers or perplexity"
        )
    raise ArrieroError(f"the corpus's ledger has no figure '{figure}'{hint}")


def first_parts(corpus: Path, files: Sequence[Path]) -> list[str | None]:
    """The part that holds the first document of each file of a split; None: a file without documents.

    Files follow the order of the parts, so one walk over the identifiers finds all.

    Raises:
        DamagedArtifactError: a document is in no part after those of the file before.
    """
    parts = iter(ledger_parts(corpus))
    part = next(parts)
    ids = part.ledger(["id"])["id"]
    found: list[str | None] = []
    for file in files:
        document = next(iter(file_documents(file)), None)
        if document is None:
            found.append(None)
            continue
        while pc.index(ids, document.id).as_py() < 0:
            following = next(parts, None)
            if following is None:
                raise DamagedArtifactError(_not_there(document.id, corpus))
            part, ids = following, following.ledger(["id"])["id"]
        found.append(part.name)
    return found


class LedgerFigures:
    """Looks figures up for documents that come in the ledger's order. Memory: a part's identifiers and figures."""

    def __init__(self, corpus: Path, column: str, first: str) -> None:
        """``first``: name of the part with which to begin."""
        self._corpus, self._column = Path(corpus), column
        folders = sorted(path.name for path in (self._corpus / PARTS).iterdir())
        self._waiting = iter(name for name in folders if name >= first)
        self._figures: dict[str, float] = {}

    def figure(self, id: str) -> float:
        """NaN where it was not measured.

        Raises:
            DamagedArtifactError: no part from here on has the document.
        """
        while id not in self._figures:
            name = next(self._waiting, None)
            if name is None:
                raise DamagedArtifactError(_not_there(id, self._corpus))
            table = Part(self._corpus / PARTS / name).ledger(["id", self._column])
            values = table[self._column].to_numpy(zero_copy_only=False).astype(np.float32)
            self._figures = dict(zip(table["id"].to_pylist(), values.tolist(), strict=True))
        return self._figures[id]


def _not_there(id: str, corpus: Path) -> str:
    return f"the ledger of {corpus} has no document '{id}' where it should be; make the corpus anew"
