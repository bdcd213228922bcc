"""De-duplication of a corpus in parts: the steps in their order, resumable at every file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arriero.artifacts.commit import write_json_atomic
from arriero.data.dedup import books, clusters, decisions, exact, lines, semantic, substring
from arriero.data.dedup.report import DedupReport, make_report
from arriero.data.dedup.rows import ROWS, SLOTS, Slot, open_slots, write_slots
from arriero.data.dedup.settings import Dedup
from arriero.data.dedup.steps import Steps
from arriero.data.dedup.survivor import prepare_rows
from arriero.data.execute.progress import Progress
from arriero.data.execute.tasks import Executor, never, silent
from arriero.data.facts import FactsSettings
from arriero.data.pipeline.part import PART

PLAN, REPORT = "plan.json", "report.json"
_STEPS = (
    exact.STEP, clusters.STEP, books.STEP, semantic.STEP, lines.LINES, lines.PARAGRAPHS, substring.STEP,
)  # fmt: skip
_OWN = (*_STEPS, decisions.STEP, ROWS, "decisions", "line_edits")
Body = Callable[[tuple[str, ...]], dict[str, Any]]


def run_dedup(
    parts: Sequence[Path],
    settings: Dedup,
    executor: Executor,
    work: Path,
    tick: Callable[[Progress], None] = silent,
    stop: Callable[[], bool] = never,
    facts: FactsSettings | None = None,
) -> DedupReport:
    """Find duplicates among the documents that the rules kept.

    Leaves in ``work``: ``decisions/<part>.parquet`` (a row for a dropped document), ``line_edits/<part>.parquet`` (a
    row for a cut span) and ``report.json``. The same bytes for any order of ``parts``, number of workers and kind of
    executor. What an interrupted run of the same settings on the same parts left there is taken up; that of other
    settings is removed.

    A survivor may itself fall at a later step; its own row then says to whom.

    Args:
        parts: folders as the worker leaves them, in any order; their names are their canonical order.
        facts: how the parts' signatures were made; by default with the settings' shingles, bands and rows.

    Raises:
        ArrieroError: parts do not fit the settings, or a task failed.
        Interrupted: ``stop`` was true; the same call goes on.
    """
    work = Path(work).resolve()
    facts = facts or FactsSettings(
        shingle_words=settings.shingle_words, bands=settings.bands, rows=settings.rows
    )
    if settings.books is not None:
        books.check_books(facts, settings.books)
    slots = open_slots(parts)
    take_up(work, fingerprint(slots, [settings.model_dump(mode="json"), asdict(facts)]), _OWN)
    if (work / REPORT).exists():
        return DedupReport.of_record(json.loads((work / REPORT).read_bytes()))
    write_slots(work, slots)
    steps = Steps(work, slots, executor, settings.memory_bytes, tick, stop)
    steps.map_parts(ROWS, "prepare", prepare_rows, settings, output=".")
    reports: dict[str, dict[str, Any]] = {}
    for step, body in _bodies(steps, settings, facts):
        after = tuple(reports)
        reports[step] = steps.once(step, lambda body=body, after=after: body(after))  # type: ignore[misc]
    counts = decisions.write_decisions(steps, tuple(reports), settings.max_cluster)
    report = make_report(counts, reports, settings)
    write_json_atomic(work / REPORT, report.record())
    steps.sweep((*reports, decisions.STEP))
    return report


def _bodies(steps: Steps, settings: Dedup, facts: FactsSettings) -> list[tuple[str, Body]]:
    """The steps that the settings ask for, in order."""
    found: list[tuple[str, Body]] = []
    if settings.exact:
        found.append((exact.STEP, lambda after: exact.run_exact(steps, settings, after)))
    if settings.threshold is not None:
        found.append((clusters.STEP, lambda after: clusters.run_near(steps, settings, facts, after)))
    if (of_books := settings.books) is not None:
        found.append((books.STEP, lambda after: books.run_books(steps, of_books, facts, after)))
    if (by_meaning := settings.semantic) is not None:
        found.append((semantic.STEP, lambda after: semantic.run_semantic(steps, by_meaning, after)))
    if (of_lines := settings.lines) is not None:
        found.append((lines.LINES, lambda after: lines.run_lines(steps, lines.LINES, of_lines, after)))
    if (of_paragraphs := settings.paragraphs) is not None:
        step = lines.PARAGRAPHS
        found.append((step, lambda after: lines.run_lines(steps, step, of_paragraphs, after)))
    if (of_spans := settings.substring) is not None:
        found.append((substring.STEP, lambda after: substring.run_substring(steps, of_spans, after)))
    return found


def fingerprint(slots: Sequence[Slot], settings: Any) -> str:
    """What results depend on: the settings, and what each part says of itself."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for slot in slots:
        digest.update(slot.name.encode() + b"\0" + (Path(slot.path) / PART).read_bytes())
    return digest.hexdigest()


def take_up(work: Path, plan: str, own: Sequence[str]) -> None:
    """Make ``work`` ready for a plan: what was made for another one goes."""
    marker = work / PLAN
    known = json.loads(marker.read_bytes()).get("plan") if marker.exists() else None
    if known != plan:
        marker.unlink(missing_ok=True)
        for name in (*own, SLOTS, REPORT):
            path = work / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        write_json_atomic(marker, {"plan": plan})
