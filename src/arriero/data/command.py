"""`arriero data`: looking at curated corpora, tracing tokens, trying other thresholds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from arriero.data.make_commands import COMMANDS
from arriero.errors import ArrieroError

_PATH = click.Path(path_type=Path)
_CORPUS = click.argument("corpus", type=_PATH)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print data instead of text.")
_RAW = click.option(
    "--raw",
    type=_PATH,
    help="Where the source's files lie today.  [default: where the corpus says they were]",
)


@click.group()
def data() -> None:
    """Curated corpora: what was dropped and why, where a token comes from, what other thresholds would do."""


@data.command()
@_CORPUS
@click.option(
    "--tokenizer", type=_PATH, help="Folder of a tokenizer that counts tokens.  [default: 4 bytes are one]"
)
@click.option("--full", is_flag=True, help="Every rule alone and in turn, edits, licences.")
@click.option(
    "--check", is_flag=True, help="Count again from ledger and shards instead of reading report.json."
)
@_JSON
def report(corpus: Path, tokenizer: Path | None, full: bool, check: bool, as_json: bool) -> None:
    """What came in, what each rule dropped, what was kept; it closes to zero or fails."""
    from arriero.data.audit.describe import read_report
    from arriero.data.audit.tables import print_report

    found = read_report(corpus, tokenizer, check=check or tokenizer is not None)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_report(found, _out(), full=full)


@data.command()
@_CORPUS
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine.  [default: a free one]"
)
@_RAW
def inspect(corpus: Path, port: int, raw: Path | None) -> None:
    """Open a corpus as a page: funnel, histograms with movable thresholds, dropped documents, edits, duplicates."""
    from arriero.data.audit.inspect.server import serve_corpus

    serve_corpus(corpus, port, raw, lambda line: click.echo(line, err=True))


@data.command()
@click.argument("where", metavar="TOKENS|CORPUS", type=_PATH)
@click.argument("what", metavar="OFFSET|ID|TEXT")
@click.option("--split", default="train", show_default=True, help="Split of the tokens.")
@_RAW
@_JSON
def trace(where: Path, what: str, split: str, raw: Path | None, as_json: bool) -> None:
    """From a training token to the raw bytes; or from a document's id or a piece of text.

    \b
    arriero data trace runs/x/tokens 123456        the document that this token stands in
    arriero data trace runs/x/corpus web:page-17   the document of that id
    arriero data trace runs/x/corpus "a sentence"  the documents that hold it, kept or not
    """
    from arriero.data.audit.describe import print_trace, trace_any, trace_json

    traces = trace_any(where, what, split, raw)
    if as_json:
        click.echo(json.dumps([trace_json(one) for one in traces], indent=2, ensure_ascii=False))
        return
    console = _out()
    for one in traces:
        print_trace(one, console)


@data.command()
@_CORPUS
@click.option("--rules", "file", type=_PATH, help="YAML file of rules, as a recipe has them.")
@click.option("--preset", "presets", metavar="NAME", multiple=True, help="Rules of this preset (repeatable).")
@click.option(
    "--set",
    "sets",
    metavar="NAME=VALUE",
    multiple=True,
    help="Another threshold: min_words=20, max_top_2gram=null, language.min_score=0.5 (repeatable).",
)
@click.option(
    "--out", metavar="DIR", type=_PATH, help="Write the corpus that comes of it, duplicates looked for anew."
)
@_JSON
def rethreshold(
    corpus: Path, file: Path | None, presets: tuple[str, ...], sets: tuple[str, ...], out: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Apply other rules to the stored facts: who changes sides, without reading a text again."""
    from arriero.data.audit.describe import print_change, read_rules
    from arriero.data.audit.rethreshold import CuratedCorpus, Rethreshold, changed_settings, filter_settings

    if not (file or presets or sets):
        raise ArrieroError("give other rules: --rules FILE, --preset NAME or --set NAME=VALUE")
    opened = CuratedCorpus(corpus)
    settings = changed_settings(
        filter_settings(opened), rules=read_rules(file) if file else None, presets=presets, sets=sets
    )
    again = Rethreshold(opened, settings)
    change = again.preview()
    if as_json:
        click.echo(json.dumps(change.to_json(), indent=2, ensure_ascii=False))
    else:
        print_change(change, _out())
    if out is not None:
        from arriero.data.audit.rewrite import write_rethresholded

        audit = write_rethresholded(again, out, lambda line: click.echo(line, err=True))
        click.echo(f"{out}: {audit.report.total.kept.documents:,} documents", err=True)


for _command in COMMANDS:
    data.add_command(_command)


def _out() -> Console:
    return Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160)
