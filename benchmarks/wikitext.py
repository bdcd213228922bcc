"""How fast a MediaWiki dump is read and its wikitext made plain, on one core.

python benchmarks/wikitext.py DUMP [--show N]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from arriero.data.readers.wikipedia import WikipediaReader
from arriero.data.records import Limits, Record
from arriero.data.wikitext.plain import plain_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dump", type=Path)
    parser.add_argument("--show", type=int, help="print the text of this page, counted from 0")
    given = parser.parse_args()
    begin = time.process_time()
    records = list(WikipediaReader().read(given.dump, 0, None, Limits()))
    reading = time.process_time() - begin
    sources = [
        record.content for record in records if isinstance(record, Record) and isinstance(record.content, str)
    ]
    size = sum(len(source.encode()) for source in sources) / 1e6
    begin = time.process_time()
    texts = [plain_text(source) for source in sources]
    making = time.process_time() - begin
    print(f"{len(sources)} articles, {len(records) - len(sources)} refused, {size:.1f} MB of wikitext")
    print(f"read {size / reading:.1f} MB/s, made plain {size / making:.1f} MB/s")
    print(f"{sum(len(text.encode()) for text in texts) / 1e6:.1f} MB of text")
    if given.show is not None:
        print(texts[given.show])


if __name__ == "__main__":
    main()
