"""A corpus under other thresholds, written: new ledgers over the old texts, duplicates looked for anew, new shards."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arriero.artifacts.artifact import list_files
from arriero.artifacts.commit import commit_folder, fresh_folder, write_bytes_atomic, write_json_atomic
from arriero.artifacts.hashing import sha256_json
from arriero.artifacts.manifest import MANIFEST, Manifest
from arriero.data.audit.ledger import PARTS, write_batches
from arriero.data.audit.report import Written
from arriero.data.audit.rethreshold import Rethreshold
from arriero.data.audit.write import Audit, AuditSettings, write_audit
from arriero.data.pipeline.part import LEDGER, PART, Part
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.data.curate import CurateSettings
    from arriero.data.execute.progress import Progress

_INLINE = 64 << 20
"""Bytes of kept text below which processes are not worth starting."""


def write_rethresholded(
    again: Rethreshold, out: Path, say: Callable[[str], None] = lambda line: None
) -> Audit:
    """Write the corpus that the new thresholds make: the same bytes as curating anew with them, as far as every figure
    that the filters ask for was measured. Texts are linked, not copied, where the file system has links.

    Raises:
        ArrieroError: ``out`` exists, or nothing is left, or the report does not close.
    """
    if out.exists():
        raise ArrieroError(f"{out} exists already; nothing was overwritten")
    old = again.corpus.manifest
    if old is None:
        raise ArrieroError(f"{again.corpus.folder} does not say how it was made: it has no {MANIFEST}")
    settings = _settings(again, old)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    partial, work = (out.with_name(f".{out.name}.{os.getpid()}.{end}") for end in ("partial", "work"))
    with fresh_folder(work), fresh_folder(partial):
        written, reports = _make(again, settings, old.seed, work, partial, say)
        audit = write_audit(
            partial, AuditSettings(alarms=settings.alarms), old.seed, rules=settings.rules, written=written
        )
        facts = {**audit.report.to_json(), "steps": reports, "rethresholded": old.key}
        _write_manifest(old, settings, written, facts, started, partial)
        commit_folder(partial, out)
        shutil.rmtree(work)
    return audit


def _settings(again: Rethreshold, old: Manifest) -> CurateSettings:
    from arriero.data.curate import CurateSettings

    return CurateSettings.model_validate({**old.settings, **again.settings.model_dump(mode="json")})


def _make(
    again: Rethreshold,
    settings: CurateSettings,
    seed: int,
    work: Path,
    folder: Path,
    say: Callable[[str], None],
) -> tuple[dict[str, Written], dict[str, Any]]:
    from arriero.data.execute import ExecutorSettings, make_executor
    from arriero.data.pipeline.run import Curation, Hooks, decide, deliver, write

    curation = Curation(
        settings.sources, settings.part_settings(), settings.dedup, settings.decontaminate, settings.validation_share,
        seed, settings.split_bytes, settings.shard_bytes,
    )  # fmt: skip
    parts = [
        _new_part(again, part, work / PARTS, sha256_json(curation.settings.model_dump_json()))
        for part in again.corpus.parts
    ]
    small = sum(int(part.about["kept_bytes"]) for part in parts) < _INLINE
    executor = make_executor(ExecutorSettings(kind="inline") if small else settings.executor)
    told: set[str] = set()

    def tell(step: str, _: Progress) -> None:
        if step not in told:
            say(f"{step} ...")
        told.add(step)

    hooks = Hooks(tell, lambda: False)
    reports = decide(curation, parts, executor, work, hooks)
    accounts = write(curation, parts, executor, work, hooks)
    deliver(work, folder)
    splits = list(accounts[0]["splits"])
    found = {
        name: Written(
            *(sum(account["splits"][name][key] for account in accounts) for key in ("documents", "bytes"))
        )
        for name in splits
    }
    if not any(split.documents for split in found.values()):
        raise ArrieroError("nothing is left under these thresholds; loosen them")
    return found, reports


def _new_part(again: Rethreshold, part: Part, folder: Path, settings: str) -> Part:
    """The part with a new ledger; everything else is linked."""
    new = folder / part.name
    new.mkdir(parents=True)
    for path in sorted(part.folder.iterdir()):
        if path.name not in (LEDGER, PART):
            _link(path, new / path.name)
    table = again.new_ledger(part)
    write_batches(new / LEDGER, table)
    reasons = table["reason"].to_numpy(zero_copy_only=False)
    kept = reasons == ""
    about = {
        **part.about, "settings": settings, "kept": int(kept.sum()),
        "reasons": {name: n for name, n in sorted(Counter(map(str, reasons)).items()) if name},
        "kept_bytes": int(np.sum(table["kept_bytes"].to_numpy()[kept])),
    }  # fmt: skip
    write_json_atomic(new / PART, about)
    return Part(new)


def _write_manifest(
    old: Manifest,
    settings: CurateSettings,
    written: dict[str, Written],
    facts: dict[str, Any],
    started: str,
    folder: Path,
) -> None:
    from arriero.data.corpus import Corpus
    from arriero.data.quality.spread import corpus_spreads
    from arriero.stage import CorpusSpec, SplitSpec

    files = Corpus(folder).files
    splits = {
        name: SplitSpec(documents=split.documents, bytes=split.text_bytes, files=len(files.get(name, [])))
        for name, split in written.items()
    }
    spec = CorpusSpec(
        splits=splits, bytes_read=facts["total"]["in"]["text_bytes"], figures=corpus_spreads(folder)
    )
    chosen = settings.model_dump(mode="json")
    new = old.model_copy(
        update={
            "key": sha256_json([old.key, chosen]), "settings": chosen, "files": list_files(folder), "facts": facts,
            "spec": spec.model_dump(mode="json"), "started": started, "measured": {},
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )  # fmt: skip
    write_bytes_atomic(folder / MANIFEST, new.model_dump_json(indent=2).encode())


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
