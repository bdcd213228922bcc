"""A small corpus through the real stage, as a recipe would make it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.data.audit.conftest import prose
from tests.data.conftest import FakeContext

from arriero.artifacts import Manifest
from arriero.data.curate import Curate, CurateSettings

MAIL = "For more write to jane.miller@muletown.net or call."


def write_sources(folder: Path) -> list[dict[str, Any]]:
    """Two raw files: JSONL with PII, short texts and duplicates; a folder of HTML pages."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [prose(n, 20 + 9 * n) for n in range(14)]
    texts += [texts[9], texts[10] + "\nOnce more.", MAIL + "\n" + prose(50, 120)]
    lines = [json.dumps({"text": text, "url": f"https://example.org/{n}"}) for n, text in enumerate(texts)]
    (folder / "notes.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
    pages = folder / "pages"
    pages.mkdir(exist_ok=True)
    for n in range(3):
        body = "".join(f"<p>{line}</p>" for line in prose(70 + n, 90).split("\n"))
        (pages / f"{n}.html").write_text(
            f"<html><body><article><h1>Page {n}</h1>{body}</article></body></html>"
        )
    return [
        {"path": str(folder / "notes.jsonl"), "name": "notes", "license": "CC0-1.0"},
        {"path": str(pages), "name": "pages", "license": "MIT"},
    ]


def curate(folder: Path, sources: list[dict[str, Any]], **settings: Any) -> Path:
    """Run the stage; returns the corpus's folder, with its manifest."""
    chosen = CurateSettings.model_validate(
        {"sources": sources, "pii": {}, "validation_share": 0.2, **settings}
    )
    context = FakeContext(folder)
    outcome = Curate().run(chosen, {}, context)
    manifest = Manifest(
        name="curate", kind="curate", makes="corpus", key="0" * 64, stage_version=2, seed=context.seed, started="", ended="",
        settings=chosen.model_dump(mode="json"), spec=outcome.spec.model_dump(mode="json"),
    )  # fmt: skip
    (context.folder / "manifest.json").write_text(manifest.model_dump_json())
    return context.folder
