"""Everything of one document, as the page shows it; its raw record; the documents of its cluster."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from arriero.data.audit.curated import CuratedCorpus, Row
from arriero.data.audit.personal import blot
from arriero.data.audit.schema import FACT, MEASURE, describe
from arriero.data.audit.trace import Trace, trace_row
from arriero.errors import ArrieroError

TEXT = 200_000
"""Characters of a text that the page gets."""
RAW = 300_000
MEMBERS = 50
_MEMBER_TEXT = 20_000


def document_view(corpus: CuratedCorpus, number: int, raw: Path | None) -> dict[str, Any]:
    """One document: outcome, place, text before edits with the edits, cuts of the global steps, facts."""
    row = corpus.at(number)
    trace = trace_row(corpus, row, raw=raw)
    ledger = trace.ledger
    decision = trace.decision
    before, text = (blot(trace.texts[0], trace.edits), trace.texts[1]) if trace.texts else (None, None)
    docs = describe(corpus.schema)
    facts = [
        {
            "name": name,
            "label": name.removeprefix(FACT).removeprefix(MEASURE),
            "value": _number(ledger[name]),
            "doc": docs[name],
        }
        for name in corpus.figures
    ]
    plain = {
        name: ledger[name]
        for name in ledger
        if name not in corpus.figures and name not in ("edits", "pii", "digest", "meta")
    }
    return {
        "number": number, "part": row.part.name, "row": row.row, "outcome": trace.outcome, "ledger": plain,
        "digest": ledger["digest"].hex() if ledger["digest"] else None, "meta": _meta(ledger["meta"]),
        "decision": decision, "survivor": _survivor(corpus, decision), "pii": ledger["pii"] or [],
        "before": before[:TEXT] if before is not None else None, "text": text[:TEXT] if text is not None else None,
        "shortened": bool(before and max(len(before), len(text or "")) > TEXT), "edits": [e.__dict__ for e in trace.edits],
        "cuts": [e.__dict__ for e in trace.line_edits], "facts": facts if trace.texts else [], "raw": raw_view(trace, 0),
    }  # fmt: skip


def raw_view(trace: Trace, most: int = RAW) -> dict[str, Any]:
    """State of the raw record, and its beginning as text (bytes that are no UTF-8 as \\xNN)."""
    content = trace.raw.content
    shown = None if content is None or not most else content[:most].decode("utf-8", "backslashreplace")
    return {
        "state": trace.raw.state, "why": trace.raw.why, "path": str(trace.raw.path) if trace.raw.path else None,
        "bytes": len(content) if content is not None else None, "content": shown,
        "shortened": content is not None and len(content) > most > 0,
    }  # fmt: skip


def cluster_view(corpus: CuratedCorpus, cluster: int) -> dict[str, Any]:
    """The documents of a cluster of duplicates: the survivor first, then the others, up to fifty.

    Raises:
        ArrieroError: there is no such cluster.
    """
    members: list[tuple[Row, dict[str, Any]]] = []
    size = 0
    for index, part in enumerate(corpus.parts):
        decisions = corpus.decisions(part)
        if decisions is None:
            continue
        for decision in decisions.filter(pc.equal(decisions["cluster"], cluster)).to_pylist():
            size = max(size, decision["cluster_size"] or 0)
            if len(members) < MEMBERS:
                place = Row(part, decision["row"], int(corpus.starts[index]) + decision["row"])
                members.append((place, decision))
    if not members:
        raise ArrieroError(f"there is no cluster {cluster}")
    survivor = corpus.find(str(members[0][1]["survivor"]))
    shown = [_member(corpus, survivor, None)] if survivor else []
    return {
        "cluster": cluster,
        "size": size,
        "members": shown + [_member(corpus, *member) for member in members],
    }


def _member(corpus: CuratedCorpus, row: Row, decision: dict[str, Any] | None) -> dict[str, Any]:
    ledger = corpus.ledger_row(row)
    texts = corpus.texts(row)
    return {
        "number": row.number, "id": ledger["id"], "source": ledger["source"], "url": ledger["url"], "date": ledger["date"],
        "step": decision["step"] if decision else None, "value": _number(decision["value"]) if decision else None,
        "bytes": ledger["kept_bytes"], "text": texts[1][:_MEMBER_TEXT] if texts else "",
    }  # fmt: skip


def _survivor(corpus: CuratedCorpus, decision: dict[str, Any] | None) -> int | None:
    if decision is None or not decision["survivor"]:
        return None
    row = corpus.find(str(decision["survivor"]))
    return row.number if row else None


def _number(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    return value


def _meta(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
