"""Decontamination of a corpus in parts: items in documents, and how much of each item the corpus holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import write_json_atomic
from arriero.data.decontaminate.index import Index, sizes_of, write_index
from arriero.data.decontaminate.items import Item, read_items
from arriero.data.decontaminate.overlap import Totals
from arriero.data.decontaminate.plant import plant_test
from arriero.data.decontaminate.scan import (
    FOUND,
    HITS,
    INDEX,
    STEP,
    ScanSettings,
    count_documents,
    decide_part,
    load_counts,
    prepare,
    scan_part,
)  # fmt: skip
from arriero.data.decontaminate.settings import Decontamination
from arriero.data.dedup.rows import ROWS, load_array, open_slots, save_array, write_slots
from arriero.data.dedup.run import REPORT, fingerprint, take_up
from arriero.data.dedup.steps import Job, Steps
from arriero.data.execute.progress import Progress
from arriero.data.execute.tasks import Executor, never, silent
from arriero.data.pipeline.part import Part
from arriero.errors import ArrieroError

ITEMS = "items.jsonl"
_DOCUMENTS_NAMED = 10


@dataclass
class DecontaminationReport:
    """``record`` is what report.json holds: by benchmark what was looked for and found, and the self-test."""

    record: dict[str, Any]

    @property
    def contaminated_documents(self) -> int:
        """Documents that hold an item."""
        return int(self.record["contaminated_documents"])


def run_decontamination(
    parts: Sequence[Path],
    settings: Decontamination,
    executor: Executor,
    work: Path,
    tick: Callable[[Progress], None] = silent,
    stop: Callable[[], bool] = never,
    dedup: Path | None = None,
) -> DecontaminationReport:
    """Find items of benchmarks in the documents that are left.

    Leaves in ``work``: ``decisions/<part>.parquet`` (action drop), ``line_edits/<part>.parquet`` (action cut),
    ``items.jsonl`` (every item that the corpus holds something of: its name, coverage by n-gram size, documents) and
    ``report.json``. The same bytes for any order of ``parts`` and number of workers; an interrupted run goes on.

    Args:
        dedup: folder of the :func:`~arriero.data.dedup.run.run_dedup` that came before; what it dropped is not looked
            at, what it cut is not found. The cuts of both are to be merged (``arriero.data.pipeline.survivors`` does).

    Raises:
        ArrieroError: a benchmark cannot be read, or holds nothing to look for.
        Interrupted: ``stop`` was true; the same call goes on.
    """
    work = Path(work).resolve()
    scan = ScanSettings(settings, None if dedup is None else Path(dedup).resolve())
    slots = open_slots(parts)
    take_up(work, fingerprint(slots, _key(scan)), (STEP, ROWS, "decisions", "line_edits", ITEMS))
    if (work / REPORT).exists():
        return DecontaminationReport(json.loads((work / REPORT).read_bytes()))
    write_slots(work, slots)
    steps = Steps(work, slots, executor, settings.memory_bytes, tick, stop)
    steps.map_numbers(STEP, "index", build_index, settings, output="indexed", count=1)
    steps.map_parts(ROWS, "prepare", prepare, scan, output=".")
    steps.map_parts(STEP, "scan", scan_part, scan, output=HITS)
    steps.map_numbers(STEP, "counts", count_documents, None, output="documents", count=1)
    steps.map_parts(STEP, "decide", decide_part, scan, output=FOUND)
    record = _report(steps, settings)
    write_json_atomic(work / REPORT, record)
    steps.sweep(())
    return DecontaminationReport(record)


def _key(scan: ScanSettings) -> Any:
    """What the result depends on besides the parts."""
    files = []
    for benchmark in scan.settings.benchmarks:
        try:
            files.append(hashlib.sha256(Path(benchmark.path).read_bytes()).hexdigest())
        except OSError as error:
            raise ArrieroError(
                f"benchmark '{benchmark.name}': {benchmark.path} cannot be read ({error.strerror})"
            ) from None
    earlier = None if scan.earlier is None else json.loads((scan.earlier / "plan.json").read_bytes())
    return [scan.settings.model_dump(mode="json"), files, earlier]


def all_items(settings: Decontamination) -> list[Item]:
    """The items of all benchmarks, in order."""
    return [item for benchmark in settings.benchmarks for item in read_items(benchmark)]


def build_index(job: Job) -> None:
    """Read the benchmarks once."""
    settings: Decontamination = job.settings
    items = all_items(settings)
    folder = job.work / STEP / INDEX
    lengths = write_index(folder, items, settings.ngrams, settings.min_words)
    searched = [bool(sizes_of(length, settings.ngrams, settings.min_words)) for length in lengths]
    if not any(searched):
        names = ", ".join(benchmark.name for benchmark in settings.benchmarks)
        raise ArrieroError(
            f"no item of {names} has {settings.min_words} words or more (min_words): nothing to look for"
        )
    write_json_atomic(folder / "names.json", [[item.benchmark, item.name] for item in items])
    save_array(job.output, np.array(lengths, np.int64))


def _report(steps: Steps, settings: Decontamination) -> dict[str, Any]:
    folder = steps.work / STEP
    lengths = load_array(folder / "indexed" / "000000.npy")
    searched = [
        n for n, length in enumerate(lengths) if sizes_of(int(length), settings.ngrams, settings.min_words)
    ]
    names: list[list[str]] = json.loads((folder / INDEX / "names.json").read_bytes())
    found = np.concatenate(
        [load_array(folder / FOUND / f"{slot.name}.npy") for slot in steps.slots] or [np.empty(0)]
    )
    index = Index(folder / INDEX)
    counts = load_counts(steps.work)
    totals = Totals(index, None if settings.common is None else counts > settings.common)
    coverage = coverages(index, totals, counts)
    documents = _documents(steps, found)
    _write_items(steps.work / ITEMS, names, coverage, documents)
    by_benchmark = {
        benchmark.name: {
            **_of_benchmark(benchmark.name, names, searched, documents),
            "mean_coverage": _mean_coverage(benchmark.name, names, totals, coverage),
        }
        for benchmark in settings.benchmarks
    }
    self_test = plant_test(all_items(settings), searched, index, settings) if settings.plant else None
    index.close()
    return {
        "action": settings.action,
        "contaminated_documents": len(np.unique(found["row"])) if len(found) else 0,
        "benchmarks": by_benchmark,
        "self_test": self_test,
    }


def coverages(index: Index, totals: Totals, counts: NDArray[np.int64]) -> dict[int, dict[int, float]]:
    """Item -> size -> share of its distinct n-grams that any document holds; items without any are left out."""
    there = counts[totals.keys] > 0
    both, held = np.unique(totals.items[there] * 65 + index.sizes[totals.keys[there]], return_counts=True)
    found: dict[int, dict[int, float]] = {}
    for pair, number in zip(both.tolist(), held.tolist(), strict=True):
        item, n = divmod(pair, 65)
        found.setdefault(item, {})[n] = number / totals.of(item, n)
    return found


def _documents(steps: Steps, found: NDArray[Any]) -> dict[int, list[tuple[str, float]]]:
    """Item -> (document's id, share) of the contaminated documents."""
    documents: dict[int, list[tuple[str, float]]] = {}
    for slot in steps.slots:
        if not len(found):
            break
        own = found[(found["row"] >= slot.start) & (found["row"] < slot.start + slot.rows)]
        if not len(own):
            continue
        ids = Part(Path(slot.path)).ledger(["id"])["id"].to_pylist()
        for one in own:
            documents.setdefault(int(one["item"]), []).append(
                (ids[int(one["row"]) - slot.start], float(one["share"]))
            )
    return documents


def _write_items(path: Path, names: Any, coverage: Any, documents: Any) -> None:
    lines = [
        json.dumps(
            {
                "benchmark": names[item][0],
                "item": names[item][1],
                "coverage": {str(n): share for n, share in sorted(coverage[item].items())},
                "documents": len(documents.get(item, [])),
                "first_documents": documents.get(item, [])[:_DOCUMENTS_NAMED],
            },
            ensure_ascii=False,
        )
        for item in sorted(coverage)
    ]
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    temporary.replace(path)


def _of_benchmark(name: str, names: Any, searched: list[int], documents: Any) -> dict[str, Any]:
    looked_for = [item for item in searched if names[item][0] == name]
    hit = [item for item in looked_for if item in documents]
    return {
        "items": sum(benchmark == name for benchmark, _ in names),
        "looked_for": len(looked_for),
        "in_documents": len(hit),
        "documents": sum(len(documents[item]) for item in hit),
        "hit": [names[item][1] for item in hit],
    }


def _mean_coverage(name: str, names: Any, totals: Totals, coverage: Any) -> dict[str, float]:
    """Size -> mean share of n-grams that the corpus holds, over the items that have n-grams of this size."""
    shares: dict[int, list[float]] = {}
    for item, n in totals.counted:
        if names[item][0] == name:
            shares.setdefault(n, []).append(coverage.get(item, {}).get(n, 0.0))
    return {str(n): sum(found) / len(found) for n, found in sorted(shares.items())}
