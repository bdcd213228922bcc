"""The drop report in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.cost.units import format_bytes, format_count

_BAR = 24


def print_report(report: Mapping[str, Any], console: Console, *, full: bool = False) -> None:
    """Headline, alarms, funnel with reasons, sources, languages; with ``full`` every rule, edit and licence too.

    ``report``: as ``report.json`` has it.
    """
    total = report["total"]
    kept = total["kept"]
    console.print(
        f"Of {total['in']['documents']:,} records ({format_bytes(total['in']['bytes'])}) {kept['documents']:,} documents"
        f" were kept: {format_bytes(total['final_bytes'] or kept['kept_bytes'])} of text,"
        f" {format_count(kept['tokens'])} tokens ({escape(report['tokens']['basis'])})",
        highlight=False,
    )
    for alarm in report["alarms"]:
        console.print(f"[bold red]alarm[/] {escape(alarm['message'])}", highlight=False)
    console.print(_funnel(report))
    console.print(_sources(report))
    if len(report["languages"]) > 1 or full:
        console.print(_languages(report))
    if full:
        for table in (_rules(report), _edits(report), _licenses(report)):
            if table.row_count:
                console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for column in columns:
        right = column.startswith("#")
        table.add_column(
            column.removeprefix("#"), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    return table


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _funnel(report: Mapping[str, Any]) -> Table:
    total = report["total"]
    all_in = total["in"]["documents"]
    table = _table(
        "\nFrom what came in to what was kept", "step", "#documents", "#share", "#text", "#tokens", ""
    )

    def bar(documents: int) -> str:
        return "█" * round(_BAR * documents / all_in) if all_in else ""

    table.add_row(
        "came in", f"{all_in:,}", "", format_bytes(total["in"]["text_bytes"]), "", f"[green]{bar(all_in)}[/]"
    )
    for step in report["funnel"]:
        left = step["in"] - step["dropped"]
        table.add_row(
            f"[bold]{escape(step['stage'])}[/]", f"[bold]-{step['dropped']:,}[/]", _share(step["dropped"], step["in"]),
            format_bytes(step["dropped_text_bytes"]), "", f"[green]{bar(left)}[/][red]{bar(step['dropped'])}[/]",
        )  # fmt: skip
        for reason, sums in total["dropped"].items():
            if sums["stage"] == step["stage"]:
                table.add_row(
                    f"  {escape(reason)}", f"-{sums['documents']:,}", _share(sums["documents"], all_in),
                    format_bytes(sums["text_bytes"]), format_count(sums["tokens"]), "",
                )  # fmt: skip
    kept = total["kept"]
    table.add_row(
        "kept", f"{kept['documents']:,}", _share(kept["documents"], all_in), format_bytes(kept["kept_bytes"]),
        format_count(kept["tokens"]), f"[green]{bar(kept['documents'])}[/]",
    )  # fmt: skip
    return table


def _sources(report: Mapping[str, Any]) -> Table:
    table = _table(
        "\nSources",
        "source",
        "#records",
        "#bytes",
        "#kept",
        "#share",
        "#text kept",
        "#tokens",
        "most dropped for",
    )
    for name, account in report["sources"].items():
        came, kept = account["in"], account["kept"]
        main = next(iter(account["dropped"].items()), None)
        table.add_row(
            escape(name), f"{came['documents']:,}", format_bytes(came["bytes"]), f"{kept['documents']:,}",
            _share(kept["documents"], came["documents"]), format_bytes(kept["kept_bytes"]), format_count(kept["tokens"]),
            f"{escape(main[0])} ({main[1]['documents']:,})" if main else "nothing dropped",
        )  # fmt: skip
    return table


def _languages(report: Mapping[str, Any]) -> Table:
    table = _table("\nLanguages", "language", "#came in", "#of the text", "#kept", "#of the text")
    total = report["total"]
    ordered = sorted(report["languages"].items(), key=lambda item: -item[1]["in"]["text_bytes"])
    for name, account in ordered[:20]:
        came, kept = account["in"], account["kept"]
        table.add_row(
            escape(name), f"{came['documents']:,}", _share(came["text_bytes"], total["in"]["text_bytes"]),
            f"{kept['documents']:,}", _share(kept["kept_bytes"], total["kept"]["kept_bytes"]),
        )  # fmt: skip
    return table


def _rules(report: Mapping[str, Any]) -> Table:
    table = _table("\nWhat each rule does", "rule", "threshold", "#alone", "#share", "#only", "#in turn")
    for rule in sorted(report["rules"], key=lambda rule: -rule["alone"]):
        if rule["alone"] or rule["first"]:
            side = "at least" if rule["side"] == "min" else "at most"
            table.add_row(
                escape(rule["reason"]), f"{side} {rule['threshold']:g}", f"{rule['alone']:,}",
                _share(rule["alone"], rule["judged"]), f"{rule['only']:,}", f"{rule['first']:,}",
            )  # fmt: skip
    return table


def _edits(report: Mapping[str, Any]) -> Table:
    table = _table("\nEdits in kept texts", "reason", "#edits", "#characters less")
    for reason, edit in report["edits"].items():
        table.add_row(escape(reason), f"{edit['edits']:,}", f"{edit['characters']:,}")
    return table


def _licenses(report: Mapping[str, Any]) -> Table:
    table = _table("\nLicences of what was kept", "licence", "evidence", "#documents")
    for line in report["licenses"]:
        table.add_row(escape(line["license"]), escape(line["evidence"]), f"{line['documents']:,}")
    return table
