"""Which of a LaTeX project's macro definitions are expanded, and why the others are not.

    python benchmarks/latex_macros.py PATH [--list]

PATH is a folder of .tex and .sty files, one such file, or a .jsonl(.gz) of {"path", "text"}. Definitions are counted
by a scanner of its own. Each is then used once with invented arguments in a document that holds all the definitions,
and counts as expanded when the use leaves no trace of the macro's name.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

from arriero.data.latex.document import decode
from arriero.data.latex.expander import Definition, Expander
from arriero.data.latex.macros import Macro
from arriero.data.latex.primitives import HANDLERS
from arriero.data.latex.tokenizer import Lexer, render

_DEFINING = re.compile(
    r"\\(?P<command>(?:re|provide)?newcommand|renewcommand|providecommand|DeclareRobustCommand|DeclareMathOperator"
    r"|DeclarePairedDelimiter|(?:New|Renew|Provide|Declare)DocumentCommand|[gex]?def|let)\b\*?\s*\{?\s*"
    r"\\(?P<name>[A-Za-z@]+|[^A-Za-z\s#])"
)
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*")


def read_files(path: Path) -> dict[str, str]:
    """Name to text."""
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in (".tex", ".sty") and p.is_file())
        return {str(p.relative_to(path)): decode(p.read_bytes()) for p in found}
    if ".jsonl" in path.name:
        data = path.read_bytes()
        lines = (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
        rows = [json.loads(line) for line in lines]
        return {row["path"]: row["text"] for row in rows}
    return {path.name: decode(path.read_bytes())}


def definitions(files: dict[str, str]) -> list[tuple[str, str, str]]:
    """(file, command, name) of every definition that is not in a comment."""
    return [
        (name, found["command"], found["name"])
        for name, text in files.items()
        for found in _DEFINING.finditer(_COMMENT.sub(r"\1", text))
    ]


def use(name: str, macro: Macro) -> str:
    """Source of a use of a macro, with invented arguments."""
    parts = [f"\\{name}"]
    for number, parameter in enumerate(macro.parameters):
        argument = "ABCDEFGHI"[number % 9]
        if parameter.kind == "mandatory":
            parts.append(f"{{{argument}}}")
        elif parameter.kind == "delimited":
            parts.append(argument + render(parameter.tokens))
        elif parameter.kind == "literal":
            parts.append(render(parameter.tokens))
        elif parameter.kind == "brace":
            parts.append(argument + "{B}")
    return "".join(parts) + "{}"


def judge(files: dict[str, str]) -> list[tuple[str, str, str, str]]:
    """(file, command, name, reason) of every definition; the reason is empty where it is expanded."""
    everything = Expander(dict(HANDLERS))
    for name, text in sorted(files.items(), reverse=True):
        file = Lexer(text)
        file.at_is_letter(name.endswith(".sty"))
        everything.gullet.files.append(file)
    everything.expand("")
    met: dict[str, list[Definition]] = defaultdict(list)
    for definition in everything.definitions:
        met[definition.name].append(definition)
    return [(*key, _outcome(key[2], met[key[2]], everything)) for key in definitions(files)]


def _outcome(name: str, met: list[Definition], everything: Expander) -> str:
    """Definitions of one name are taken in the order in which they were met."""
    if not met:
        return "its definition was not met"
    definition = met.pop(0) if len(met) > 1 else met[0]
    if definition.macro is None:
        return definition.refused
    trial = Expander(dict(HANDLERS))
    trial.table, trial.switches = {**everything.table, name: definition.macro}, everything.switches
    file = Lexer(use(name, definition.macro))
    file.at_is_letter(True)
    trial.gullet.files.append(file)
    result = trial.expand("")
    if re.search(rf"\\{re.escape(name)}(?![A-Za-z@])", result.text) and not definition.macro.is_alias:
        return result.refused.get(name, "its name is left")
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--list", action="store_true", help="name every definition that is not expanded")
    settings = parser.parse_args()
    outcome = judge(read_files(settings.path))
    done = sum(not row[3] for row in outcome)
    print(f"{done} of {len(outcome)} definitions expanded ({done / max(1, len(outcome)):.1%})")
    for reason, count in Counter(row[3] for row in outcome if row[3]).most_common():
        print(f"  {count:4d}  {reason}")
    for file, command, name, reason in outcome:
        if reason and settings.list:
            print(f"  {file}: \\{command} \\{name}: {reason}")


if __name__ == "__main__":
    main()
