"""Recall, precision and speed of the masks for personal data.

    python benchmarks/pii.py [FILE ...] [--count N] [--seed S]

Sentences with planted data and with look-alikes are made by the tests' generator (tests/data/pii/planted.py); texts of
the FILEs (.txt, .txt.gz, or .jsonl(.gz) with the key text) are timed.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import random
import time
from pathlib import Path
from types import ModuleType

from arriero.data.pii import PiiSettings, find

_GENERATOR = Path(__file__).parents[1] / "tests/data/pii/planted.py"


def _generator() -> ModuleType:
    found = importlib.util.spec_from_file_location("planted", _GENERATOR)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _texts(path: Path) -> list[str]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")
    return [json.loads(line)["text"] for line in text.splitlines()] if ".jsonl" in path.name else [text]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--count", type=int, default=5000, help="sentences of each kind")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    planted, settings, r = _generator(), PiiSettings(), random.Random(given.seed)
    for kind, make in planted.PLANTS.items():
        hits = 0
        for _ in range(given.count):
            value = make(r)
            text, start = planted.sentence(r, value)
            hits += any(
                each.kind == kind and each.start < start + len(value) for each in find(text, settings)
            )
        print(f"{kind:12s} recall {hits / given.count:.4f} of {given.count}")
    touched = sum(
        bool(find(planted.sentence(r, planted.negative(r))[0], settings)) for _ in range(given.count)
    )
    print(f"look-alikes  {touched} of {given.count} touched")
    for path in given.files:
        texts = _texts(path)
        size = sum(len(text.encode()) for text in texts)
        begin = time.process_time()
        count = sum(len(find(text, settings)) for text in texts)
        print(f"{path.name}: {size / 1e6 / (time.process_time() - begin):.1f} MB/s a core, {count} found")


if __name__ == "__main__":
    main()
