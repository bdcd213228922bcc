"""Near-duplicates: recall and precision on planted ones, memory as the corpus grows, time beside datatrove's MinHash.

    python benchmarks/dedup.py [--documents 2000] [--megabytes 20 100] [--rival-python /path/to/datatrove/bin/python]

Planted: made-up documents with words drawn by Zipf's law; copies in which words were replaced, deleted or inserted so
that the true Jaccard similarity of word 5-grams, computed here from sets of strings, lies anywhere from 0.5 to 1. A
pair is found when not both of its documents stay. A drop is right when the similarity to its survivor is at least 0.8
by the same sets. Memory: the greatest resident size of a process that de-duplicates so many megabytes by every step.
Times are CPU seconds of one process from texts to decisions, signatures with them. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from itertools import accumulate
from pathlib import Path
from typing import Any

from arriero.data.audit.ledger import read_rows
from arriero.data.audit.schema import ledger_schema
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import (
    Dedup,
    DuplicateBooks,
    DuplicateLines,
    DuplicateSpans,
    SemanticDuplicates,
)  # fmt: skip
from arriero.data.execute import ExecutorSettings, make_executor
from arriero.data.facts import FactsSettings, measure, normalised_text
from arriero.data.pipeline.part_writer import PartWriter

THRESHOLD = 0.8
A_PART = 500
STEPS = Dedup(
    lines=DuplicateLines(), paragraphs=DuplicateLines(), substring=DuplicateSpans(method="windows"),
    books=DuplicateBooks(), semantic=SemanticDuplicates(), memory_bytes=64 << 20,
)  # fmt: skip


class Writer:
    """Made-up prose."""

    def __init__(self, seed: int, vocabulary: int = 20_000) -> None:
        self.draw = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgk"
        self._words = [
            "".join(self.draw.choices(letters, k=self.draw.randint(2, 9))) for _ in range(vocabulary)
        ]
        self._weights = list(accumulate(1 / (rank + 5) for rank in range(vocabulary)))

    def words(self, count: int) -> list[str]:
        top = self._weights[-1]
        return [self._words[bisect(self._weights, self.draw.random() * top)] for _ in range(count)]

    def text(self, words: list[str]) -> str:
        return "\n".join(" ".join(words[start : start + 14]) + "." for start in range(0, len(words), 14))

    def changed(self, words: list[str], edits: int) -> list[str]:
        found = list(words)
        for _ in range(edits):
            place, kind = self.draw.randrange(len(found)), self.draw.randrange(3)
            found[place : place + (kind != 0)] = self.words(1) if kind != 1 else []
        return found


def shingles(text: str) -> set[tuple[str, ...]]:
    words = normalised_text(text).split()
    return {tuple(words[place : place + 5]) for place in range(len(words) - 4)}


def similarity(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def plant(documents: int, seed: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts in random order, and the planted pairs."""
    writer = Writer(seed)
    originals = [writer.words(writer.draw.randint(80, 900)) for _ in range(documents)]
    texts = [writer.text(words) for words in originals]
    pairs = []
    for number in range(documents // 2):
        words = originals[number]
        goal = writer.draw.uniform(0.5, 1.0)  # of n shingles an edit changes about 5
        edits = round(len(words) * (1 - goal) / (1 + goal) / 5)
        pairs.append((number, len(texts)))
        texts.append(writer.text(writer.changed(words, edits)))
    order = list(range(len(texts)))
    writer.draw.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    return [texts[old] for old in order], [(place[a], place[b]) for a, b in pairs]


def write_parts(folder: Path, texts: list[str]) -> list[Path]:
    """Parts as the worker leaves them."""
    settings, schema = FactsSettings(), ledger_schema([])
    found = []
    for start in range(0, len(texts), A_PART):
        part = folder / f"part-{start:08d}"
        part.mkdir(parents=True)
        with PartWriter(part, schema, 112) as writer:
            for number, text in enumerate(texts[start : start + A_PART], start):
                facts, size = measure(text, settings), len(text.encode())
                row: dict[str, Any] = {
                    "id": str(number), "source": "made-up", "file": "made-up", "offset": number, "length": size,
                    "reason": "", "raw_bytes": size, "text_bytes": size, "kept_bytes": size, "digest": facts.digest,
                }  # fmt: skip
                writer.add(row, {"id": str(number), "text": text}, facts.signature)
            writer.finish({})
        found.append(part)
    return found


def decisions(work: Path) -> dict[int, int]:
    """Dropped document -> survivor."""
    found = {}
    for path in sorted((work / "decisions").iterdir()):
        start = int(path.stem.split("-")[1])
        for row in read_rows(path):
            found[start + row["row"]] = int(row["survivor"])
    return found


def quality(
    texts: list[str], pairs: list[tuple[int, int]], dropped: dict[int, int] | set[int]
) -> dict[str, Any]:
    """Recall by similarity; precision where survivors are known."""
    bins = {"0.80-0.85": [0, 0], "0.85-0.90": [0, 0], "0.90-1.00": [0, 0]}
    for a, b in pairs:
        value = similarity(texts[a], texts[b])
        if value >= THRESHOLD:
            name = next(name for name in reversed(bins) if value >= float(name.split("-")[0]))
            bins[name][0] += 1
            bins[name][1] += a in dropped or b in dropped
    all_, found = (sum(pair[i] for pair in bins.values()) for i in (0, 1))
    report: dict[str, Any] = {
        "pairs": all_,
        "recall": found / all_,
        "recall_by_similarity": {name: pair[1] / pair[0] for name, pair in bins.items() if pair[0]},
        "dropped": len(dropped),
    }
    if isinstance(dropped, dict):
        right = sum(similarity(texts[row], texts[survivor]) >= THRESHOLD for row, survivor in dropped.items())
        report["precision"] = right / len(dropped) if dropped else 1.0
    else:
        near = {
            row for pair in pairs if similarity(*(texts[row] for row in pair)) >= THRESHOLD for row in pair
        }
        report["precision"] = len(dropped & near) / len(dropped) if dropped else 1.0
    return report


def own(texts: list[str], groupings: int, folder: Path) -> tuple[dict[int, int], dict[str, float]]:
    started = time.process_time()
    parts = write_parts(folder / "parts", texts)
    written = time.process_time()
    settings = Dedup(threshold=THRESHOLD, groupings=groupings)
    run_dedup(parts, settings, make_executor(ExecutorSettings(kind="inline")), folder / "work")
    ended = time.process_time()
    seconds = {"facts, signatures, parts": written - started, "de-duplication": ended - written}
    return decisions(folder / "work"), seconds


def rival(python: str, texts: list[str], folder: Path) -> tuple[set[int], float]:
    """datatrove's four MinHash stages in one process; the documents that it drops."""
    source = folder / "in"
    source.mkdir(parents=True)
    lines = (json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(texts))
    (source / "texts.jsonl").write_text("".join(lines))
    script = Path(__file__).with_name("dedup_rival.py")
    done = subprocess.run([python, str(script), str(folder)], check=True, capture_output=True, text=True)
    report = json.loads(done.stdout.splitlines()[-1])
    return set(range(len(texts))) - {int(number) for number in report["kept"]}, float(report["cpu_seconds"])


def memory(megabytes: int, folder: Path) -> dict[str, Any]:
    """In this process: every step over a corpus of that size; run as a child, so that peaks do not mix."""
    writer = Writer(1)
    parts, size, number = [], 0, 0
    while size < megabytes * 1_000_000:
        texts = []
        for _ in range(A_PART):
            if texts and writer.draw.random() < 0.2:
                texts.append(writer.text(writer.changed(writer.draw.choice(texts).split(), 4)))
            else:
                texts.append(writer.text(writer.words(writer.draw.randint(80, 900))))
        size += sum(map(len, texts))
        parts += [path.rename(folder / f"p-{number:06d}") for path in write_parts(folder / "new", texts)]
        number += 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    report = run_dedup(parts, STEPS, make_executor(ExecutorSettings(kind="inline")), folder / "work")
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "megabytes": megabytes, "peak_mb": round(peak / 1024), "before_mb": round(before / 1024),
        "cpu_seconds": round(seconds, 1), "mb_per_cpu_second": round(size / 1e6 / seconds, 2),
        "documents": report.total.documents, "kept": report.total.kept,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[20, 100])
    parser.add_argument("--rival-python")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.memory_of:
            print(json.dumps(memory(given.memory_of, folder)))
            return
        report: dict[str, Any] = {}
        texts, pairs = plant(given.documents, seed=0)
        size = sum(map(len, texts)) / 1e6
        for groupings in (1, 2):
            dropped, seconds = own(texts, groupings, folder / f"own{groupings}")
            rate = size / sum(seconds.values())
            report[f"groupings {groupings}"] = {
                **quality(texts, pairs, dropped), "cpu_seconds": seconds, "mb_per_cpu_second": rate
            }  # fmt: skip
            print(f"groupings {groupings}: {report[f'groupings {groupings}']}", flush=True)
        if given.rival_python:
            gone, spent = rival(given.rival_python, texts, folder / "rival")
            report["datatrove"] = {
                **quality(texts, pairs, gone), "cpu_seconds": spent, "mb_per_cpu_second": size / spent
            }  # fmt: skip
            print(f"datatrove: {report['datatrove']}", flush=True)
        report["memory"] = []
        for megabytes in given.megabytes:
            command = [sys.executable, __file__, "--memory-of", str(megabytes)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            report["memory"].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"memory: {report['memory'][-1]}", flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
