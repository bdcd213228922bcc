"""datatrove's MinHash on a folder's ``in/texts.jsonl``: the rival's half of ``dedup.py``, run under its Python.

Prints one JSON line: ids of the documents that stay, CPU seconds.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter


def main(folder: Path) -> None:
    config = MinhashConfig(num_buckets=14, hashes_per_bucket=8)
    names = {name: str(folder / name) for name in ("in", "signatures", "buckets", "ids", "out")}
    reader = JsonlReader(names["in"])
    stages = [
        (1, [reader, MinhashDedupSignature(names["signatures"], config)]),
        (14, [MinhashDedupBuckets(names["signatures"], names["buckets"], config=config)]),
        (1, [MinhashDedupCluster(names["buckets"], names["ids"], config=config)]),
        (
            1,
            [
                JsonlReader(names["in"]),
                MinhashDedupFilter(names["ids"]),
                JsonlWriter(names["out"], compression=None),
            ],
        ),
    ]
    for number, (tasks, stage) in enumerate(stages):
        logs = str(folder / "logs" / str(number))
        LocalPipelineExecutor(stage, tasks=tasks, workers=1, logging_dir=logs).run()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    kept = [
        json.loads(line)["id"]
        for path in (folder / "out").rglob("*.jsonl")
        for line in path.open(encoding="utf-8")
    ]
    print(json.dumps({"kept": kept, "cpu_seconds": sum(one.ru_utime + one.ru_stime for one in used)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
