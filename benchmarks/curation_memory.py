"""Peak memory of curation as the input grows: it should stay the same.

    python benchmarks/curation_memory.py [--sizes 100MB 500MB 2GB] [--workers 2] [--folder DIR]

Texts of random words (lengths lognormal, median 300 words, one in ten a near-duplicate of another) are written as JSON
lines, 64 MB a file, and curated with Gopher's rules but for stop words, exact and near-duplicates, and lines that stand
in several documents. Sampled twenty times a second: resident bytes of the process and all its workers, shared pages
counted once for each (so the sum is an upper bound). Printed: the peak by size, seconds, and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

FILE_BYTES = 64_000_000


def size_of(text: str) -> int:
    for ending, factor in (("GB", 10**9), ("MB", 10**6)):
        if text.upper().endswith(ending):
            return int(float(text[: -len(ending)]) * factor)
    raise SystemExit(f"{text} is no size; write 100MB or 2GB")


def write_texts(folder: Path, size: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(20_000)])
    weights = 1.0 / (np.arange(len(words)) + 3.0)
    weights /= weights.sum()
    written = 0
    last = ""
    number = 0
    while written < size:
        with (folder / f"texts-{number:04d}.jsonl").open("w") as file:
            here = 0
            pool = iter(rng.choice(words, 4_000_000, p=weights).tolist())
            for length in rng.lognormal(5.7, 0.7, 12_000).astype(int) + 40:
                part = [word for _, word in zip(range(length), pool, strict=False)]
                if len(part) < length or here >= min(FILE_BYTES, size - written):
                    break
                sentences = [" ".join(part[i : i + 12]).capitalize() + "." for i in range(0, length, 12)]
                text = "\n".join(sentences)
                if last and rng.random() < 0.1:
                    text = last + "\n" + sentences[0]
                last = text
                line = json.dumps({"text": text}) + "\n"
                file.write(line)
                here += len(line)
        written += here
        number += 1


def family(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def measure(folder: Path, size: int, workers: int) -> dict[str, Any]:
    texts = folder / "texts"
    texts.mkdir()
    write_texts(texts, size)
    stage = {
        "kind": "curate",
        "sources": [{"name": "texts", "path": "texts", "license": "CC0-1.0"}],
        "rules": {"presets": ["gopher"], "min_stop_words": None},
        "dedup": {"lines": {"more_than": 3, "keep": 1}},
        "executor": {"kind": "pool", "workers": workers},
    }
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"name": "memory", "seed": 1, "stages": {"corpus": stage}}))
    command = [sys.executable, "-m", "arriero", "run", str(recipe), "--out", str(folder / "run")]
    started, peaks = time.perf_counter(), {"total": 0, "largest": 0}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None:
        sizes = [resident(pid) for pid in family(process.pid)]
        peaks = {"total": max(peaks["total"], sum(sizes)), "largest": max(peaks["largest"], *sizes)}
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    if process.returncode:
        assert process.stdout is not None
        raise SystemExit(process.stdout.read()[-2000:])
    report = json.loads((folder / "run" / "corpus" / "report.json").read_bytes())["total"]
    actual = sum(path.stat().st_size for path in texts.iterdir())
    return {
        "bytes": actual, "documents": report["in"]["documents"], "kept": report["kept"]["documents"],
        "seconds": seconds, "peak_total": peaks["total"], "peak_process": peaks["largest"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", nargs="+", default=["100MB", "500MB", "2GB"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work (default: temporary files)")
    given = parser.parse_args()
    rows = []
    for size in map(size_of, given.sizes):
        with tempfile.TemporaryDirectory(dir=given.folder) as root:
            row = measure(Path(root), size, given.workers)
        rows.append(row)
        print(
            f"{row['bytes'] / 1e6:8.0f} MB, {row['documents']:8,} documents, {row['kept']:8,} kept: peak"
            f" {row['peak_total'] / 1e6:6.0f} MB in all, {row['peak_process'] / 1e6:6.0f} MB in one process,"
            f" {row['seconds']:7.1f} s, {row['bytes'] / 1e6 / row['seconds']:6.1f} MB/s",
            flush=True,
        )
    print(json.dumps({"benchmark": "curation_memory", "workers": given.workers, "rows": rows}))


if __name__ == "__main__":
    main()
