"""The audit of a corpus that was just made: its report and its samples, written beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from arriero.data.audit.alarms import AlarmSettings
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.marginal import corpus_rules, marginal_of
from arriero.data.audit.report import DropReport, Written, build_report, write_report
from arriero.data.audit.samples import SampleSettings, write_samples
from arriero.data.audit.tokens import TokenCount, sampled_tokens
from arriero.data.filters.presets import rules_of
from arriero.data.filters.rules import Rules


class AuditSettings(BaseModel):
    """What the audit of a corpus keeps, and from when on it raises alarms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alarms: AlarmSettings = Field(
        default=AlarmSettings(), description="from which figures on an alarm is raised"
    )
    samples: SampleSettings = Field(
        default=SampleSettings(), description="how many dropped documents are kept to look at"
    )


@dataclass(frozen=True)
class Audit:
    """A finished audit."""

    report: DropReport
    samples: int


def write_audit(
    folder: Path,
    settings: AuditSettings,
    seed: int,
    *,
    rules: Rules | None = None,
    written: Mapping[str, Written] | None = None,
    tokenizer: Path | None = None,
) -> Audit:
    """Count, check and sample the corpus in ``folder`` (parts, decisions, shards), and write ``report.json`` and
    ``samples.jsonl.zst`` there. Memory is that of one part.

    Args:
        rules: those that the corpus was made with; by default as its manifest says.
        written: what the writer says of each split; by default the shards are read and counted.
        tokenizer: folder of a tokenizer that counts tokens on a sample; by default four bytes are one.

    Raises:
        ArrieroError: the report does not close.
    """
    corpus = CuratedCorpus(folder)
    rules = rules or corpus_rules(corpus)
    tokens: TokenCount | None = sampled_tokens(corpus, tokenizer, seed) if tokenizer else None
    report = build_report(corpus, written=written, token_count=tokens, alarms=settings.alarms)
    report.rules = [one.to_json() for one in marginal_of(corpus, rules)]
    write_report(report, folder)
    samples = write_samples(corpus, settings.samples, seed, rules_of(rules) if rules else ())
    return Audit(report, samples)
