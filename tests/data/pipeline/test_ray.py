from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arriero.stage import get_stage
from arriero.tokenization.sample_text import sample_texts

pytest.importorskip("ray")


@pytest.mark.slow
def test_ray_makes_the_same_bytes_as_one_process(tmp_path: Path, make_context: Callable[..., Any]) -> None:
    texts = [text + " tail" * (n % 3) for n, text in enumerate(sample_texts(60_000, words_per_text=60) * 2)]
    for number in range(2):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[number::2])
        (tmp_path / f"s{number}.jsonl").write_text(lines)
    stage = get_stage("curate")
    found = []
    for kind in ("inline", "ray"):
        settings = stage.Settings(
            sources=[{"path": tmp_path / f"s{n}.jsonl", "license": "CC0-1.0"} for n in range(2)],
            rules={"presets": ["none"]}, dedup={"lines": {}}, split_bytes=4096, shard_bytes=8192,
            executor={"kind": kind},
        )  # fmt: skip
        context = make_context()
        stage.run(settings, {}, context)
        files = sorted(path for path in context.folder.rglob("*") if path.is_file())
        found.append({path.relative_to(context.folder).as_posix(): path.read_bytes() for path in files})
    assert found[0] == found[1]
