"""datatrove's decisions, one JSON line a document; run by ``filters_agreement.py`` under the Python that has datatrove.

    /path/to/datatrove/bin/python benchmarks/filters_rival.py TEXTS.jsonl DECISIONS.jsonl LID.ftz

Each of its filters sees the same text, by itself, with its defaults (English by spaCy's blank model). The language model
is the file given, because datatrove would download its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from fasttext.FastText import _FastText


def decisions(text: str, filters: dict[str, Any]) -> dict[str, str]:
    """Filter -> "" (kept) or its reason."""
    found = {}
    for name, each in filters.items():
        document = Document(text=text, id="")
        try:
            result = each.filter(document)
        except ZeroDivisionError:  # a text without a word or a line
            result = (False, "empty")
        kept, reason = result if isinstance(result, tuple) else (result, name)
        found[name] = "" if kept else reason
        if name == "c4":
            found["c4_text"] = document.text if kept else ""
        if name == "language":
            found["lang"] = document.metadata["language"]
    return found


def main(texts: str, out: str, model: str) -> None:
    language = LanguageFilter(languages=["en"])
    language.model._model = _FastText(model)
    filters = {
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "c4": C4QualityFilter(),
        "c4_fineweb": C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(),
        "language": language,
    }
    with Path(texts).open(encoding="utf-8") as lines, Path(out).open("w", encoding="utf-8") as file:
        for line in lines:
            row = json.loads(line)
            file.write(json.dumps({"id": row["id"], **decisions(row["text"], filters)}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
