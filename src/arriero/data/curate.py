"""The stage ``curate``: raw files to a corpus, with an account of everything that was dropped."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from arriero.artifacts import LicenseRecord
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.data.audit.alarms import AlarmSettings
from arriero.data.decontaminate.settings import Decontamination
from arriero.data.dedup.settings import Dedup
from arriero.data.execute.settings import ExecutorSettings, cores
from arriero.data.extract import ExtractSettings
from arriero.data.facts.settings import FactsSettings
from arriero.data.filters.settings import FilterSettings
from arriero.data.pii.settings import PiiSettings
from arriero.data.source import Source
from arriero.errors import ArrieroError
from arriero.stage import (
    Context,
    CorpusSpec,
    FigureSpread,
    Inputs,
    Outcome,
    Plan,
    Specs,
    SplitSpec,
    Stage,
    StageSettings,
    register,
)

if TYPE_CHECKING:
    from arriero.data.audit.report import DropReport
    from arriero.data.execute.progress import Progress
    from arriero.data.pipeline.forecast import Forecast
    from arriero.data.pipeline.run import Curation
    from arriero.data.pipeline.settings import PartSettings

_DUPLICATES = 0.10
"""Share of duplicates that a plan allows for below its middle: a glance cannot see them."""
_WORKER_BYTES = 150 << 20
"""Resident bytes of a worker before it holds any text."""
_SMALL = 16 << 20
"""Bytes of raw files below which processes are not worth starting."""


class CurateSettings(FilterSettings, StageSettings):
    """Settings of the stage ``curate``."""

    sources: list[Source] = Field(min_length=1, description="the raw files")
    extract: ExtractSettings = Field(default=ExtractSettings(), description="how text is made of records")
    pii: PiiSettings | None = Field(
        default=None, description="personal data that is found and masked; null: not looked for"
    )
    dedup: Dedup = Field(default=Dedup(), description="how duplicates are found")
    decontaminate: Decontamination | None = Field(
        default=None, description="benchmarks that must not be in the corpus; null: not looked for"
    )
    validation_share: float = Field(
        default=0.05, ge=0, le=0.5, description="share of the documents held out for validation"
    )
    alarms: AlarmSettings = Field(
        default=AlarmSettings(),
        description="from which figures on the drop report raises an alarm",
        json_schema_extra={"in_key": False},
    )
    split_bytes: int = Field(
        default=64 << 20, ge=1 << 10, description="bytes of raw file that a worker takes at a time"
    )
    shard_bytes: int = Field(
        default=256 << 20, ge=1 << 10, description="bytes of text that a file of the corpus holds, about"
    )
    executor: ExecutorSettings = Field(
        default=ExecutorSettings(),
        description="who does the work: processes here, Ray, or this process alone; the result is the same",
        json_schema_extra={"in_key": False},
    )

    @field_validator("sources")
    @classmethod
    def _unique_names(cls, sources: list[Source]) -> list[Source]:
        twice = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if twice:
            raise ValueError(f"two sources have the name '{twice[0]}'")
        return sources

    def part_settings(self) -> PartSettings:
        """What every worker is given."""
        from arriero.data.pipeline.settings import PartSettings

        filters = FilterSettings(**{name: getattr(self, name) for name in FilterSettings.model_fields})
        dedup = self.dedup
        facts = FactsSettings(self.rules.words, dedup.shingle_words, dedup.bands, dedup.rows)
        return PartSettings(extract=self.extract, filters=filters, pii=self.pii, facts=facts)


@register
class Curate(Stage[CurateSettings]):
    """Read raw files, extract text, cut and mask, drop what breaks the rules and what is there twice, split.

    Every record has its line in the ledger: where it comes from, its facts, every edit, and why it was dropped.
    Duplicates are resolved before the split, so none of them stands on both sides. A run that was killed goes on
    after the last whole splits of the files. Look at the result with `arriero data inspect`.
    """

    kind = "curate"
    version = 2
    makes = "corpus"
    help = "raw files to a clean, de-duplicated, split corpus"
    Settings = CurateSettings

    def plan(self, settings: CurateSettings, specs: Specs, device: DeviceProfile) -> Plan:
        from arriero.data.pipeline.forecast import check_something_left, foresee
        from arriero.data.pipeline.plan import in_one_piece

        part_settings = settings.part_settings()
        forecasts = [foresee(source, part_settings) for source in settings.sources]
        check_something_left(settings.sources, forecasts)
        notes = [
            "documents and bytes are scaled up from the beginning of every source, with the rules of the run;"
            f" duplicates are not foreseen (they may take {_DUPLICATES:.0%} more, or much more)"
        ]
        notes += filter(None, (in_one_piece(source, settings.split_bytes) for source in settings.sources))
        flops = Quantity.exact(0.0, "FLOP", "modelled", "no floating-point work")
        estimate = Estimate(
            seconds=_seconds(forecasts, settings, device),
            peak_memory=_memory(forecasts, settings, device),
            flops=flops,
        )
        return Plan(_spec(forecasts, settings.validation_share, settings.shard_bytes), estimate, notes)

    def run(self, settings: CurateSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.data.execute import make_executor
        from arriero.data.pipeline.run import Hooks, decide, deliver, make_parts, write
        from arriero.data.quality.spread import corpus_spreads

        curation = _curation(settings, context.seed)
        executor = make_executor(_executor(settings))
        hooks = Hooks(partial(_tell, context), context.stop_requested)
        with executor.session():
            parts = make_parts(curation, executor, context.state, hooks)
            steps = decide(curation, parts, executor, context.state, hooks)
            accounts = write(curation, parts, executor, context.state, hooks)
        deliver(context.state, context.folder)
        report = _audit(settings, accounts, context)
        for alarm in [*(alarm["message"] for alarm in report.alarms), *steps["dedup"]["alarms"]]:
            context.say(f"  alarm: {alarm}")
        spec = CorpusSpec(
            splits=_splits(accounts),
            bytes_read=report.total.came.text_bytes,
            figures=corpus_spreads(context.folder),
        )
        return Outcome(spec, {**report.to_json(), "steps": steps}, _licenses(settings, accounts))

    def probe(self) -> dict[str, Rate]:
        from arriero.data.pipeline.probe import probe_rates

        return probe_rates()


# ---------------------------------------------------------------------------------------------- the plan


def _spec(forecasts: list[Forecast], validation_share: float, shard_bytes: int) -> CorpusSpec:
    documents = max(sum(f.kept_documents for f in forecasts), 2.0) * (1 - _DUPLICATES / 4)
    n_bytes = max(sum(f.kept_bytes for f in forecasts), 1.0) * (1 - _DUPLICATES / 4)
    shares = {"train": 1 - validation_share, "validation": validation_share}
    splits = {
        name: SplitSpec(
            documents=max(1, round(documents * share)),
            bytes=max(1, round(n_bytes * share)),
            files=max(1, round(n_bytes / shard_bytes)),
        )
        for name, share in shares.items()
        if share
    }
    return CorpusSpec(
        splits=splits, bytes_read=round(sum(f.bytes for f in forecasts)), figures=_figures(forecasts)
    )


def _figures(forecasts: list[Forecast]) -> dict[str, FigureSpread]:
    """How what the filters measured is spread over the text that was looked at."""
    from arriero.data.quality.spread import spreads_of

    names = dict.fromkeys(name for forecast in forecasts for name in forecast.figures)
    figures = {name: [value for f in forecasts for value in f.figures[name]] for name in names}
    return spreads_of(figures, [size for f in forecasts for size in f.sizes])


def _seconds(forecasts: list[Forecast], settings: CurateSettings, device: DeviceProfile) -> Quantity:
    """Text goes through facts, rules and de-duplication; HTML is read first, which takes longer than all of that."""
    rates = {kind: device.rate(f"curate.{kind}_per_s") for kind in ("bytes", "html_bytes")}
    text = rates["bytes"]
    if text is None:
        return Quantity.unknown("s", "no rate curate.bytes_per_s in the device profile")
    seconds = sum(f.bytes for f in forecasts) / text.per_s
    html = sum(f.html_bytes for f in forecasts)
    if html:
        if rates["html_bytes"] is None:
            return Quantity.unknown("s", "no rate curate.html_bytes_per_s in the device profile")
        seconds += html / rates["html_bytes"].per_s
    executor = _executor(settings)
    if executor.kind != "inline":
        seconds = 1.0 + seconds / (executor.workers or cores())
    return Quantity.band(0.2 + seconds, max(text.spread, 0.4), "s", "modelled", "measured rate")


def _memory(forecasts: list[Forecast], settings: CurateSettings, device: DeviceProfile) -> Quantity:
    """This process, its workers with some copies of the longest text, and one partition of a global step."""
    longest = max((f.longest for f in forecasts), default=0)
    executor = _executor(settings)
    workers = 0 if executor.kind == "inline" else executor.workers or cores()
    documents = sum(f.documents for f in forecasts)
    partition = min(settings.dedup.memory_bytes, 2_000 * documents)
    resident = device.process_bytes + (workers or 1) * (12 * longest + _WORKER_BYTES) + partition
    return Quantity.band(
        resident, 0.3, "B", "modelled", "processes, longest text, a partition of a global step"
    )


# ---------------------------------------------------------------------------------------------- the run


def _curation(settings: CurateSettings, seed: int) -> Curation:
    from arriero.data.pipeline.run import Curation

    return Curation(
        settings.sources,
        settings.part_settings(),
        settings.dedup,
        settings.decontaminate,
        settings.validation_share,
        seed,
        settings.split_bytes,
        settings.shard_bytes,
    )


def _executor(settings: CurateSettings) -> ExecutorSettings:
    """What was asked for; this process alone where there is too little to start others for."""
    asked = settings.executor
    if asked != ExecutorSettings():
        return asked
    total = sum(
        path.stat().st_size for source in settings.sources for _, path in source.files() if path.is_file()
    )
    return ExecutorSettings(kind="inline") if total < _SMALL else asked


def _tell(context: Context, step: str, progress: Progress) -> None:
    figures: dict[str, float | str] = {"step": step}
    if progress.drop_rate is not None:
        figures["dropped"] = f"{progress.drop_rate:.1%}"
    if progress.of_bytes:
        context.progress(progress.bytes, progress.of_bytes, "B", **figures)
    else:
        context.progress(progress.tasks, progress.of_tasks, "tasks", **figures)


def _audit(settings: CurateSettings, accounts: list[dict[str, Any]], context: Context) -> DropReport:
    """The closed report and the samples.

    Raises:
        ArrieroError: nothing is left, or the report does not close.
    """
    from arriero.data.audit.report import Written
    from arriero.data.audit.write import AuditSettings, write_audit

    written = {name: Written(spec.documents, spec.bytes) for name, spec in _splits(accounts).items()}
    report = write_audit(
        context.folder,
        AuditSettings(alarms=settings.alarms),
        context.seed,
        rules=settings.rules,
        written=written,
    ).report
    if not report.total.kept.documents:
        raise ArrieroError(_why_empty(report, settings))
    return report


def _splits(accounts: list[dict[str, Any]]) -> dict[str, SplitSpec]:
    names = accounts[0]["splits"]
    return {
        name: SplitSpec(
            **{key: sum(a["splits"][name][key] for a in accounts) for key in ("documents", "bytes")},
            files=len(accounts),
        )
        for name in names
    }


def _licenses(settings: CurateSettings, accounts: list[dict[str, Any]]) -> list[LicenseRecord]:
    """Those of the documents that were kept; of a source without any, the source's own."""
    found: dict[str, set[str]] = {source.name: set() for source in settings.sources}
    for account in accounts:
        for name, names in account["licenses"].items():
            found[name].update(names)
    return [
        LicenseRecord(name=license, of=source.name, url=source.url)
        for source in settings.sources
        for license in sorted(found[source.name]) or [source.license]
    ]


def _why_empty(report: DropReport, settings: CurateSettings) -> str:
    """The one line that says which rule dropped most."""
    total = report.total
    if not total.came.documents:
        return f"no document in {', '.join(str(source.path) for source in settings.sources)}"
    stage, reason = max(total.dropped, key=lambda key: (total.dropped[key].documents, key))
    return (
        f"nothing is left after curation: of {total.came.documents:,} documents {reason} dropped"
        f" {total.dropped[stage, reason].documents:,}; loosen the rules or give other sources"
    )
