"""What the commands print: a report that is there or made now, traces, what other thresholds change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.cost.units import format_bytes
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.marginal import marginal_of
from arriero.data.audit.personal import blot
from arriero.data.audit.report import REPORT_FILE, build_report
from arriero.data.audit.rethreshold import Change
from arriero.data.audit.tokens import sampled_tokens
from arriero.data.audit.trace import Trace, find_text, trace_id, trace_row, trace_token
from arriero.data.shards import META_FILE
from arriero.errors import ArrieroError

_AROUND = 40
_SHOWN = 12
"""Edits and lines of a raw record that are printed."""


def read_report(folder: Path, tokenizer: Path | None = None, *, check: bool = False) -> dict[str, Any]:
    """``report.json`` of a corpus, or the same counted now.

    Raises:
        ArrieroError: no corpus, or the report does not close.
    """
    corpus = CuratedCorpus(folder)
    path = corpus.folder / REPORT_FILE
    if path.is_file() and not check:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        return stored
    report = build_report(corpus, token_count=sampled_tokens(corpus, tokenizer) if tokenizer else None)
    report.rules = [one.to_json() for one in marginal_of(corpus)]
    return report.to_json()


def read_rules(file: Path) -> dict[str, Any]:
    """A YAML file of rules, or of filters with the key ``rules``.

    Raises:
        ArrieroError: it cannot be read, or is no mapping.
    """
    import yaml

    try:
        found = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArrieroError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise ArrieroError(f"{file} should map rules to thresholds: min_words: 20")
    return found


def trace_any(where: Path, what: str, split: str, raw: Path | None) -> list[Trace]:
    """Traces of a token's offset (in a tokens artifact), a document's id or a piece of text (in a corpus).

    Raises:
        ArrieroError: nothing is found.
    """
    if (where / META_FILE).is_file():
        if not what.replace("_", "").replace(",", "").isdigit():
            raise ArrieroError(
                f"'{what}' should be the number of a token, from 0; for a text or an id give the corpus"
            )
        return [trace_token(where, int(what.replace(",", "")), split, raw)]
    corpus = CuratedCorpus(where)
    if corpus.find(what) is not None:
        return [trace_id(corpus, what, raw)]
    rows = find_text(corpus, what)
    if not rows:
        raise ArrieroError(f"{where} has no record with this id, and no text that holds it: '{what}'")
    return [trace_row(corpus, row, raw=raw) for row in rows]


def trace_json(trace: Trace) -> dict[str, Any]:
    """A trace as data; values of personal data are blotted out."""
    ledger = {k: v.hex() if isinstance(v, bytes) else v for k, v in trace.ledger.items()}
    ledger = {k: None if isinstance(v, float) and v != v else v for k, v in ledger.items()}
    return {
        "corpus": str(trace.corpus), "part": trace.row.part.name, "row": trace.row.row, "number": trace.row.number,
        "outcome": trace.outcome, "token": trace.token.__dict__ if trace.token else None, "ledger": ledger,
        "decision": trace.decision, "line_edits": [edit.__dict__ for edit in trace.line_edits],
        "text": trace.texts[2] if trace.texts else None,
        "raw": {"state": trace.raw.state, "why": trace.raw.why, "path": str(trace.raw.path) if trace.raw.path else None},
        "notes": trace.notes,
    }  # fmt: skip


def print_trace(trace: Trace, console: Console) -> None:
    """A trace from the token up to the raw bytes."""

    def line(label: str, text: str, style: str = "") -> None:
        shown = f"[{style}]{escape(text)}[/]" if style else escape(text)
        console.print(f"  {label:<10}{shown}", highlight=False)

    ledger = trace.ledger
    color = "green" if trace.outcome == "kept" else "red"
    console.print(f"\n[bold]{escape(ledger['id'])}[/]  [{color}]{escape(trace.outcome)}[/]", highlight=False)
    token = trace.token
    if token is not None:
        line(
            "token",
            f"{token.offset:,} of split {token.split}: id {token.id}, number {token.position:,} of document {token.document:,}",
        )
        if token.copies > 1:
            line("copy", f"{token.copy + 1} of {token.copies}, by the document's quality")
        around = f"{escape(_flat(token.before))}[reverse]{escape(_flat(token.token))}[/]{escape(_flat(token.after))}"
        console.print(f"            …{around}…", highlight=False)
    line(
        "ledger",
        f"part {trace.row.part.name}, row {trace.row.row} (record {trace.row.number:,} of {trace.corpus})",
    )
    if ledger["stage"] and ledger["value"] is not None:
        line("verdict", f"{ledger['reason']}: {ledger['value']:g}, threshold {ledger['threshold']:g}")
    if trace.decision is not None:
        line(
            "decision",
            ", ".join(f"{k} {v}" for k, v in trace.decision.items() if v is not None and k != "row"),
        )
    line("text", f"{format_bytes(ledger['raw_bytes'])} record, {format_bytes(ledger['text_bytes'])} text by {ledger['extractor']},"
         f" {format_bytes(ledger['kept_bytes'])} after edits")  # fmt: skip
    _print_edits(trace, console)
    line("licence", f"{ledger['license']} ({ledger['license_evidence']})")
    place = "decompressed content, " if ledger["in_content"] else ""
    line(
        "raw",
        f"{trace.raw.path or ledger['file']}, {place}bytes {ledger['offset']:,} to {ledger['offset'] + ledger['length']:,}",
    )
    style = {"matches": "green", "changed": "red", "gone": "red"}.get(trace.raw.state, "yellow")
    line("", f"{trace.raw.state}: {trace.raw.why}", style)
    if trace.raw.content:
        console.print(escape(_head(trace.raw.content)), style="dim", highlight=False)
    for note in trace.notes:
        line("note", note, "yellow")


def _print_edits(trace: Trace, console: Console) -> None:
    if trace.texts is None:
        return
    before = blot(trace.texts[0], trace.edits)
    edits = [(before, edit) for edit in trace.edits] + [(trace.texts[1], edit) for edit in trace.line_edits]
    for text, edit in edits[:_SHOWN]:
        gone = _flat(text[edit.start : edit.end])
        gone = gone if len(gone) <= _AROUND else gone[:_AROUND] + "…"
        put = f" → [green]{escape(edit.replacement)}[/]" if edit.replacement else ""
        console.print(
            f"  {'edit':<10}{edit.start:,}-{edit.end:,} {escape(edit.reason)}: [red strike]{escape(gone)}[/]{put}",
            highlight=False,
        )
    if len(edits) > _SHOWN:
        console.print(f"  {'':<10}and {len(edits) - _SHOWN:,} more edits", highlight=False)


def _flat(text: str) -> str:
    return text.replace("\n", "⏎")


def _head(content: bytes) -> str:
    lines = content[:2000].decode("utf-8", "backslashreplace").splitlines()[:_SHOWN]
    return "\n".join(f"    {line[:150]}" for line in lines)


def print_change(change: Change, console: Console) -> None:
    """Old account beside new, and how many documents change sides."""
    table = Table(box=None, pad_edge=False)
    for name in ("", "documents before", "now", "text before", "now"):
        table.add_column(name, justify="left" if not name else "right")
    for reason, row in change.to_json()["reasons"].items():
        style = "bold" if reason == "kept" else "" if row["old"] != row["new"] else "dim"
        table.add_row(
            escape(reason), f"{row['old']:,}", f"{row['new']:,}", format_bytes(row["old_bytes"]),
            format_bytes(row["new_bytes"]), style=style,
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{change.newly_kept:,} documents come in{_some(change.examples, 'newly_kept')},"
        f" {change.newly_dropped:,} fall out{_some(change.examples, 'newly_dropped')}; duplicates are looked for after that.",
        highlight=False,
    )
    if change.unmeasured:
        console.print(
            f"[yellow]{change.unmeasured:,} of those that come in were never measured by a later filter (perplexity,"
            " classifier, words), and pass it; curate again to have them measured.[/]", highlight=False,
        )  # fmt: skip


def _some(examples: Mapping[str, list[str]], name: str) -> str:
    return f" ({escape(', '.join(examples[name][:3]))})" if examples[name] else ""
