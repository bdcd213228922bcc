"""datatrove on one WARC file: the rival's half of ``curation.py``, run under the Python that has datatrove.

    /path/to/datatrove/bin/python benchmarks/curation_rival.py PAGES.warc.gz FOLDER LID.ftz TIER [--no-urls]

One process does what the pipeline of FineWeb does (its examples/fineweb.py, one WARC instead of a dump): read, block
list, extract, language, Gopher's repetition and quality rules, C4, FineWeb, write; then MinHash in its four stages and
personal data. Prints one JSON line: pages read, documents kept, CPU seconds by step, of this process and its children.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
    URLFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from fasttext.FastText import _FastText


class ResiliparseExtractor(Trafilatura):  # type: ignore[misc]
    """datatrove has none of its own; this is the library's main content, in datatrove's frame."""

    name = "resiliparse"

    def extract(self, text: str) -> str:
        from resiliparse.extract.html2text import extract_plain_text

        return str(extract_plain_text(text, main_content=True, alt_texts=False, links=False, comments=False))


def cpu() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Clock:
    """CPU seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = cpu()

    def lap(self, name: str) -> None:
        now = cpu()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def language_filter(model: str) -> LanguageFilter:
    found = LanguageFilter(languages=["en"])
    found.model._model = _FastText(model)
    return found


def counted(documents: Iterable[Document], counts: dict[str, int], name: str) -> Iterator[Document]:
    for document in documents:
        counts[name] = counts.get(name, 0) + 1
        yield document


def chain(steps: list[Any], documents: Any = None) -> Any:
    for step in steps:
        documents = step(documents, 0, 1) if callable(step) else step
    return documents


def drain(documents: Any) -> None:
    for _ in documents or ():
        pass


def main(warc: str, out: str, model: str, tier: str, *more: str) -> None:
    folder, clock, counts = Path(out), Clock(), {"pages": 0}
    extractor = ResiliparseExtractor() if tier == "resiliparse" else Trafilatura(favour_precision=True)
    filters = [] if "--no-urls" in more else [URLFilter()]
    filters += [
        extractor,
        language_filter(model),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]
    path = Path(warc)
    reader = WarcReader(str(path.parent), glob_pattern=path.name)
    documents = counted(reader(None, 0, 1), counts, "pages")
    for step in filters:
        documents = step.run(documents, 0, 1)
    writer = JsonlWriter(str(folder / "kept"))
    drain(writer.run(documents, 0, 1))
    clock.lap("read to write")
    config = MinhashConfig()
    kept = str(folder / "kept")
    signature = MinhashDedupSignature(str(folder / "signatures"), config=config)
    signature.run(JsonlReader(kept)(None, 0, 1), 0, 1)
    buckets = MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"), config=config)
    for rank in range(config.num_buckets):
        buckets.run(None, rank, config.num_buckets)
    MinhashDedupCluster(str(folder / "buckets"), str(folder / "remove"), config=config).run(None, 0, 1)
    documents = MinhashDedupFilter(str(folder / "remove")).run(JsonlReader(kept)(None, 0, 1), 0, 1)
    documents = counted(PIIFormatter().run(documents, 0, 1), counts, "kept")
    drain(JsonlWriter(str(folder / "final")).run(documents, 0, 1))
    clock.lap("minhash and personal data")
    time.sleep(0)
    print(json.dumps({"tool": "datatrove", "tier": tier, **counts, "cpu_s": cpu(), "steps": clock.seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
