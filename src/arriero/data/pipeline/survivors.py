"""What is left of a part after the rules and the global steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from arriero.data.documents import Document
from arriero.data.pipeline.part import Part
from arriero.data.split import position

_COLUMNS = ("source", "url", "license", "lang", "meta", "reason", "digest")


class Survivors:
    """The documents of a part that no decision dropped, with the spans cut that global steps cut."""

    def __init__(self, part: Part, decisions: Sequence[Path], line_edits: Sequence[Path]) -> None:
        """``decisions``, ``line_edits``: folders with a file ``<part>.parquet`` each, where a step wrote one."""
        self.part = part
        self._dropped = {row["row"] for row in _rows(decisions, part.name, ("row",))}
        self._cuts: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for row in _rows(line_edits, part.name, ("row", "start", "end")):
            self._cuts[row["row"]].append((row["start"], row["end"]))

    def documents(self, seed: int) -> Iterator[tuple[float, Document]]:
        """(position in [0, 1) by digest and seed, document), in order."""
        import orjson

        ledger = self.part.ledger(_COLUMNS).to_pydict()
        for row, found in self.part.texts():
            if ledger["reason"][row] or row in self._dropped:
                continue
            text = cut(found["text"], self._cuts[row]) if row in self._cuts else found["text"]
            meta = ledger["meta"][row]
            document = Document(
                found["id"],
                text,
                ledger["source"][row],
                ledger["url"][row],
                ledger["license"][row],
                ledger["lang"][row],
                orjson.loads(meta) if meta else {},
            )
            yield position(ledger["digest"][row], seed), document


def cut(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """``text`` without the spans, which may overlap; blank space at both ends goes too."""
    parts: list[str] = []
    end = 0
    for start, stop in sorted(spans):
        parts.append(text[end : max(start, end)])
        end = max(end, stop)
    return "".join([*parts, text[end:]]).strip()


def _rows(folders: Sequence[Path], part: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    from arriero.data.audit.ledger import read_rows

    for folder in folders:
        path = folder / f"{part}.parquet"
        if path.exists():
            yield from read_rows(path, columns)
