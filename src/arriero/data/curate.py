"""The stage ``curate``: raw files to a corpus, with an account of everything that was dropped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from arriero.artifacts import InputPath, LicenseRecord
from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile, Rate
from arriero.data.documents import Source
from arriero.data.files import content_bytes
from arriero.data.forecast import Forecast, check_something_left, foresee
from arriero.data.rules import Rules
from arriero.errors import ArrieroError, Interrupted
from arriero.stage import (
    Context,
    CorpusSpec,
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
    from arriero.data.selection import Selection
    from arriero.data.source_pass import SourcePass

_DUPLICATES = 0.10
"""Share of duplicates that a plan allows for below its middle: a glance cannot see them."""


class Dedup(BaseModel):
    """De-duplication over all sources."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exact: bool = Field(default=True, description="drop texts that are equal after normalisation")
    threshold: float | None = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Jaccard similarity from which texts are near-duplicates; null: not looked for",
    )
    shingle_words: int = Field(default=5, ge=1, le=32, description="words in a shingle")
    bands: int = Field(
        default=14, ge=1, le=256, description="MinHash bands; one shared band makes a candidate"
    )
    rows: int = Field(default=8, ge=1, le=64, description="MinHash values in a band")


class CurateSettings(StageSettings):
    """Settings of the stage ``curate``."""

    sources: list[Source] = Field(min_length=1, description="the raw files")
    rules: Rules = Field(
        default=Rules(), description="what a document must be like; null switches a rule off"
    )
    dedup: Dedup = Field(default=Dedup(), description="how duplicates are found")
    validation_share: float = Field(
        default=0.05, ge=0, le=0.5, description="share of the documents held out for validation"
    )

    @field_validator("sources")
    @classmethod
    def _unique_names(cls, sources: list[Source]) -> list[Source]:
        twice = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if twice:
            raise ValueError(f"two sources have the name '{twice[0]}'")
        return sources


@register
class Curate(Stage[CurateSettings]):
    """Read raw files, normalise, drop what breaks the rules and what is there twice, split by document.

    Every drop is recorded with its reason in dropped.jsonl.gz. Near-duplicates are resolved before the split, so
    none of them stands on both sides. A run that was killed goes on after the last whole source.
    """

    kind = "curate"
    version = 1
    makes = "corpus"
    help = "raw files to a clean, de-duplicated, split corpus"
    Settings = CurateSettings

    def plan(self, settings: CurateSettings, specs: Specs, device: DeviceProfile) -> Plan:
        forecasts = [foresee(source, settings.rules) for source in settings.sources]
        check_something_left(settings.sources, forecasts)
        notes = [
            "documents and bytes are scaled up from the first 256 kB of every source, with the rules of the run;"
            f" duplicates are not foreseen (they may take {_DUPLICATES:.0%} more, or much more)"
        ]
        flops = Quantity.exact(0.0, "FLOP", "modelled", "no floating-point work")
        estimate = Estimate(
            seconds=_seconds(forecasts, device), peak_memory=_memory(forecasts, settings, device), flops=flops
        )
        return Plan(_spec(forecasts, settings.validation_share), estimate, notes)

    def run(self, settings: CurateSettings, inputs: Inputs, context: Context) -> Outcome:
        from arriero.data.selection import select, write_corpus

        passes = _passes(settings, context)
        selection = select(passes, settings.dedup, settings.validation_share, context.seed, _stopper(context))
        accounts = selection.accounts(passes)
        if not selection.kept.any():
            raise ArrieroError(_why_empty(accounts[-1], settings.rules))
        licenses = write_corpus(passes, selection, context.folder, _stopper(context))
        return Outcome(
            CorpusSpec(splits=_splits(passes, selection), bytes_read=accounts[-1].bytes_in),
            _facts(accounts, passes, selection),
            [
                LicenseRecord(name=license, of=source.name, url=source.url)
                for source in settings.sources
                for license in licenses.get(source.name, [source.license])
            ],
        )

    def probe(self) -> dict[str, Rate]:
        from arriero.data.jsonl import open_writer, write_record
        from arriero.tokenization.sample_text import sample_texts

        texts = sample_texts(1_500_000)
        with TemporaryDirectory() as name:
            path = Path(name) / "sample.jsonl.gz"
            with open_writer(path) as file:
                for text in texts:
                    write_record(file, {"text": text})
            source = Source(path=InputPath(path), name="sample", license="unknown")
            context = _Quiet(Path(name))
            started = time.perf_counter()
            self.run(CurateSettings(sources=[source]), {}, context)
            seconds = time.perf_counter() - started
        return {"curate.bytes_per_s": Rate(per_s=sum(map(len, texts)) / seconds, spread=0.35, unit="B")}


# ---------------------------------------------------------------------------------------------- the plan


def _spec(forecasts: list[Forecast], validation_share: float) -> CorpusSpec:
    documents = max(sum(f.kept_documents for f in forecasts), 2.0) * (1 - _DUPLICATES / 4)
    n_bytes = max(sum(f.kept_bytes for f in forecasts), 1.0) * (1 - _DUPLICATES / 4)
    shares = {"train": 1 - validation_share, "validation": validation_share}
    splits = {
        name: SplitSpec(documents=max(1, round(documents * share)), bytes=max(1, round(n_bytes * share)))
        for name, share in shares.items()
        if share
    }
    return CorpusSpec(splits=splits, bytes_read=round(sum(f.bytes for f in forecasts)))


def _seconds(forecasts: list[Forecast], device: DeviceProfile) -> Quantity:
    rate = device.rate("curate.bytes_per_s")
    if rate is None:
        return Quantity.unknown("s", "no rate curate.bytes_per_s in the device profile")
    n_bytes = sum(f.bytes for f in forecasts)
    return Quantity.band(0.1 + n_bytes / rate.per_s, max(rate.spread, 0.35), "s", "modelled", "measured rate")


def _memory(forecasts: list[Forecast], settings: CurateSettings, device: DeviceProfile) -> Quantity:
    """The process, some copies of the longest text with its words, and the tables of de-duplication."""
    signature = 4 * settings.dedup.bands * settings.dedup.rows + 24 * settings.dedup.bands
    documents = sum(f.kept_documents for f in forecasts)
    longest = max((f.longest for f in forecasts), default=0)
    resident = device.process_bytes + 40 * longest + (signature + 400) * documents
    return Quantity.band(resident, 0.3, "B", "modelled", "process, longest text, tables of de-duplication")


# ---------------------------------------------------------------------------------------------- the run


def _passes(settings: CurateSettings, context: Context) -> list[SourcePass]:
    from arriero.data.minhash import MinHash, Shingler
    from arriero.data.source_pass import run_source_pass

    dedup = settings.dedup
    hashes = None
    if dedup.threshold is not None:
        hashes = Shingler(dedup.shingle_words), MinHash(dedup.bands, dedup.rows)
    expected = sum(content_bytes(Path(source.path)) for source in settings.sources if source.path.is_file())
    passes: list[SourcePass] = []
    done = 0
    for number, source in enumerate(settings.sources):

        def tick(n_bytes: int, before: int = done, name: str = source.name) -> None:
            if context.stop_requested():
                raise Interrupted(f"stopped in source {name}; the sources before it are kept")
            context.progress(before + n_bytes, max(expected, before + n_bytes), "B", source=name)

        folder = context.state / "sources" / f"{number:04d}-{source.name}"
        passes.append(run_source_pass(source, settings.rules, hashes, folder, tick))
        done += passes[-1].account.bytes_in
    if not sum(len(one) for one in passes) and not done:
        raise ArrieroError(f"no document in {', '.join(str(source.path) for source in settings.sources)}")
    return passes


def _stopper(context: Context) -> Callable[[int, int], None]:
    def tick(done: int, total: int) -> None:
        if context.stop_requested():
            raise Interrupted("stopped while looking for duplicates; the sources read so far are kept")
        context.progress(done, total, "documents")

    return tick


def _splits(passes: list[SourcePass], selection: Selection) -> dict[str, SplitSpec]:
    import numpy as np

    sizes = np.concatenate([one.text_bytes for one in passes])
    return {
        split: SplitSpec(documents=int(mask.sum()), bytes=int(sizes[mask].sum()))
        for split, mask in selection.splits().items()
    }


def _facts(accounts: list[Any], passes: list[SourcePass], selection: Selection) -> dict[str, Any]:
    total = accounts[-1]
    return {
        "sources": [account.facts() for account in accounts[:-1]],
        "total": total.facts(),
        "kept_share": {
            "documents": round(total.documents_kept / total.documents_in, 4),
            "bytes": round(total.bytes_kept / total.bytes_in, 4),
        },
        "splits": {name: spec.model_dump() for name, spec in _splits(passes, selection).items()},
    }


def _why_empty(total: Any, rules: Rules) -> str:
    """The one line that says which rule dropped most."""
    reason = max(total.documents_dropped, key=lambda r: (total.documents_dropped[r], r))
    threshold = getattr(rules, reason, None)
    which = f"{reason} ({threshold:g})" if threshold is not None else reason
    return (
        f"nothing is left after curation: of {total.documents_in:,} documents {which} dropped"
        f" {total.documents_dropped[reason]:,}; loosen the rules or give other sources"
    )


class _Quiet:
    """A context that shows nothing, for the probe."""

    def __init__(self, root: Path) -> None:
        self.folder, self.state, self.seed = root / "folder", root / "state", 0
        self.folder.mkdir()
        self.state.mkdir()

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Shows nothing."""

    def log(self, **figures: Any) -> None:
        """Writes nothing."""

    def say(self, line: str) -> None:
        """Says nothing."""

    def stop_requested(self) -> bool:
        return False

    def count_flops(self, flops: float) -> None:
        """Counts nothing."""
