"""A small curated corpus, written part by part as the pipeline does it, with one of everything that can happen."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from arriero.artifacts import Manifest
from arriero.data.audit.ledger import write_table
from arriero.data.audit.schema import DECISIONS, FACT, LINE_EDITS, ledger_schema
from arriero.data.facts import FACTS, FactsSettings, measure
from arriero.data.filters.rule_filter import RuleFilter
from arriero.data.filters.rules import Rules
from arriero.data.pipeline.part import Part
from arriero.data.pipeline.part_writer import PartWriter
from arriero.data.pipeline.survivors import Survivors
from arriero.data.pipeline.texts import FramedWriter
from arriero.data.records import Edit, apply_edits

WORDS = [
    "the",
    "mule",
    "carried",
    "salt",
    "and",
    "maize",
    "over",
    "the",
    "pass",
    "to",
    "the",
    "town",
    "that",
    "they",
    "had",
    "left",
    "in",
    "spring",
    "with",
    "the",
    "other",
    "animals",
    "of",
    "an",
    "old",
    "trader",
    "whose",
    "books",
    "record",
    "prices",
    "weather",
    "illness",
    "debts",
    "weddings",
    "and",
    "the",
    "names",
    "of",
    "rivers",
    "bridges",
    "inns",
]
XSS = "<script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">"


def prose(seed: int, words: int) -> str:
    """Sentences of the words above, none like another."""
    rng = random.Random(seed)
    lines = []
    while words > 0:
        n = min(words, rng.randint(9, 16))
        drawn = [rng.choice(WORDS) for _ in range(n)] + [f"{rng.randrange(10_000)}"]
        lines.append(" ".join(drawn).capitalize() + ".")
        words -= n
    return "\n".join(lines)


@dataclass
class Given:
    """A document to put into a corpus; ``refused`` gives a reason instead of a text."""

    text: str = ""
    source: str = "web"
    lang: str | None = "en"
    edits: list[Edit] = field(default_factory=list)
    refused: str | None = None
    license: str = "CC-BY-4.0"
    dropped: tuple[str, int, int] | None = None
    """(step, number of the survivor, size of the cluster) of a global step."""
    cuts: list[tuple[int, int]] = field(default_factory=list)


def documents() -> list[Given]:
    """Forty-odd documents: good ones, short ones, repetitive ones, refused ones, duplicates, edited ones."""
    found = [Given(prose(n, 60 + 7 * n), lang="en" if n % 4 else "de") for n in range(24)]
    found[2] = Given(prose(2, 90) + "\n" + XSS)
    mail = "Write to someone@example.org today.\n"
    text = mail + prose(3, 90)
    found[3] = Given(
        text, edits=[Edit(9, 28, "<email>", "pii.email"), Edit(len(mail), len(mail) + 20, "", "lines.policy")]
    )
    found[5].cuts = [(0, 10)]
    found += [Given(prose(100 + n, 8 + 6 * n)) for n in range(8)]
    found += [Given("\n".join([prose(200 + n, 12)] * 12), source="forum") for n in range(6)]
    found += [
        Given(source="forum", refused=reason)
        for reason in ("read.truncated", "extract.too_deep", "read.truncated")
    ]
    found += [Given(found[4].text, source="forum", dropped=("duplicate.exact", 4, 3))]
    found += [Given(found[4].text + " Indeed.", source="forum", dropped=("duplicate.near", 4, 3))]
    return found


class Builder:
    """Writes a corpus folder; ``rules`` decide as in a run."""

    def __init__(self, folder: Path, rules: Rules) -> None:
        self.folder, self.rules = folder, rules
        self._filter = RuleFilter(rules)
        self._facts = FactsSettings()
        self.rows: list[dict[str, Any]] = []

    def build(self, given: list[Given], rows_a_part: int = 11) -> Path:
        """Parts, decisions, shards and a manifest."""
        schema = ledger_schema(FACTS, ["perplexity"])
        numbers = list(enumerate(given))
        for start in range(0, len(given), rows_a_part):
            name = f"all-{start // rows_a_part:05d}"
            chunk = numbers[start : start + rows_a_part]
            folder = self.folder / "parts" / name
            folder.mkdir(parents=True)
            with PartWriter(folder, schema, self._facts.bands * self._facts.rows) as writer:
                for number, one in chunk:
                    self._add(writer, number, one)
                writer.finish({"source": "all"})
            self._decide(name, chunk)
        self._shards()
        self.write_manifest()
        return self.folder

    def write_manifest(self, **settings: Any) -> None:
        """As the stage's manifest says it."""
        manifest = Manifest(
            name="curate", kind="curate", makes="corpus", key="0" * 64, stage_version=1, seed=0, spec={}, started="", ended="",
            settings={"rules": self.rules.model_dump(mode="json"), **settings},
        )  # fmt: skip
        (self.folder / "manifest.json").write_text(manifest.model_dump_json())

    def _add(self, writer: PartWriter, number: int, one: Given) -> None:
        row: dict[str, Any] = {
            "id": f"{one.source}:{number}", "source": one.source, "file": "pages.warc", "offset": 1000 * number, "length": 900,
            "raw_bytes": len(one.text.encode()) + 100, "license": one.license, "license_evidence": "declared: source",
            "lang": one.lang, "lang_score": 0.9, "stage": "", "reason": "", "url": f"https://example.org/{number}",
            "text_bytes": 0, "kept_bytes": 0, "extractor": "test 1",
        }  # fmt: skip
        if one.refused:
            row |= {
                "stage": one.refused.partition(".")[0],
                "reason": one.refused,
                "meta": json.dumps({"detail": "bad"}),
            }
            self.rows.append(row)
            writer.add(row, None, None)
            return
        text = apply_edits(one.text, one.edits)
        facts = measure(text, self._facts)
        row |= {
            "text_bytes": len(one.text.encode()), "kept_bytes": len(text.encode()),
            "digest": hashlib.blake2b(text.encode(), digest_size=16).digest(), "edits": [e.__dict__ for e in one.edits],
            "pii": [{"kind": "email", "count": 1}] if one.edits else [], "m_perplexity": float("nan"),
            **{FACT + name: value for name, value in facts.values.items()},
        }  # fmt: skip
        verdict = self._filter.judge(row)
        if verdict is not None:
            row |= {"stage": "rules", **verdict.__dict__}
        self.rows.append(row)
        writer.add(
            row,
            {"id": row["id"], "text": text} | ({"before": one.text} if one.edits else {}),
            facts.signature,
        )

    def _decide(self, part: str, chunk: list[tuple[int, Given]]) -> None:
        decisions = [
            {"row": n, "step": one.dropped[0], "survivor": self.rows[one.dropped[1]]["id"], "cluster": one.dropped[1],
             "cluster_size": one.dropped[2], "value": 0.97, "threshold": 0.8}
            for n, (number, one) in enumerate(chunk) if one.dropped and not self.rows[number]["stage"]
        ]  # fmt: skip
        cuts = [
            {"row": n, "start": start, "end": end, "reason": "duplicate.line"}
            for n, (_, one) in enumerate(chunk)
            for start, end in one.cuts
        ]
        write_table(self.folder / "decisions" / f"{part}.parquet", DECISIONS, decisions)
        write_table(self.folder / "line_edits" / f"{part}.parquet", LINE_EDITS, cuts)

    def _shards(self) -> None:
        folders = [self.folder / name for name in ("decisions", "line_edits")]
        with (
            FramedWriter(self.folder / "train-00000.jsonl.zst") as train,
            FramedWriter(self.folder / "validation-00000.jsonl.zst") as validation,
        ):
            for path in sorted((self.folder / "parts").iterdir()):
                for place, document in Survivors(Part(path), folders[:1], folders[1:]).documents(0):
                    (validation if place < 0.1 else train).add(document.record())


Build = Callable[..., Builder]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """The corpus of :func:`documents` under Gopher's rules, made once; not to be changed."""
    builder = Builder(tmp_path_factory.mktemp("corpus"), Rules())
    builder.build(documents())
    return builder


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Make a corpus of given documents."""

    def make(
        given: list[Given] | None = None, rules: Rules | None = None, name: str = "corpus", **options: Any
    ) -> Builder:
        builder = Builder(tmp_path / name, rules or Rules())
        builder.build(documents() if given is None else given, **options)
        return builder

    yield make
