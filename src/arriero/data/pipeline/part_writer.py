"""Writing a part: its texts, ledger, signatures and places, into a folder that then appears whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import write_json_atomic
from arriero.data.audit.ledger import TableWriter
from arriero.data.pipeline.part import FRAMES, LEDGER, PART, SIGNATURES, TEXTS
from arriero.data.pipeline.texts import FramedWriter

if TYPE_CHECKING:
    import pyarrow as pa


class PartWriter:
    """Takes rows in the order of the file. Memory: 2 kB of figures a row at most, one frame of texts."""

    def __init__(self, folder: Path, schema: pa.Schema, signature_width: int) -> None:
        self._folder, self._width = folder, signature_width
        self._schema = schema
        self._signatures: list[NDArray[np.uint32]] = []
        self._texts_rows: list[int] = []
        self._rows = 0
        self._counts: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()

    def __enter__(self) -> PartWriter:
        self._stack = ExitStack()
        self._texts = self._stack.enter_context(FramedWriter(self._folder / TEXTS))
        self._ledger = self._stack.enter_context(TableWriter(self._folder / LEDGER, self._schema))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(
        self, row: Mapping[str, Any], text: Mapping[str, Any] | None, signature: NDArray[np.uint32] | None
    ) -> None:
        """A record: its ledger row; its text and signature where it gave one."""
        self._ledger.add(row)
        if text is not None:
            self._texts.add(text)
            self._texts_rows.append(self._rows)
        if signature is None:
            signature = np.zeros(self._width, np.uint32)
        self._signatures.append(signature)
        self._rows += 1
        self._counts[row["reason"]] += 1
        for key in ("raw_bytes", "text_bytes"):
            self._sizes[key] += row.get(key, 0)
        if not row["reason"]:
            self._sizes["kept_bytes"] += row["kept_bytes"]

    def finish(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Write what has to be known as a whole; returns what ``part.json`` says."""
        width = (len(self._signatures), self._width)
        signatures = np.concatenate(self._signatures) if self._signatures else np.zeros(0, np.uint32)
        np.save(self._folder / SIGNATURES, signatures.reshape(width), allow_pickle=False)
        frames = np.full((self._rows, 2), -1, np.int64)
        frames[self._texts_rows] = self._texts.places
        np.save(self._folder / FRAMES, frames, allow_pickle=False)
        facts = {
            **about,
            "rows": self._rows,
            "documents": len(self._texts_rows),
            "kept": self._counts[""],
            "reasons": {reason: n for reason, n in sorted(self._counts.items()) if reason},
            **{key: self._sizes[key] for key in ("raw_bytes", "text_bytes", "kept_bytes")},
        }
        write_json_atomic(self._folder / PART, facts)
        return facts
