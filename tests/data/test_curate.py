from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.cost.device import Rate
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.samples import read_samples
from arriero.data.corpus import Corpus
from arriero.data.normalise import normalise
from arriero.errors import ArrieroError, Interrupted
from arriero.stage import get_stage
from arriero.tokenization.sample_text import sample_texts

STAGE = get_stage("curate")
OFF: dict[str, Any] = {"presets": ["none"]}
DEVICE: Any = SimpleNamespace(process_bytes=3e8, rate=lambda name: Rate(per_s=1e6, spread=0.2, unit="B"))
Make = Callable[..., Any]


def jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def curate(context: Any, paths: list[Path], **settings: Any) -> Any:
    sources = [
        {"path": path, "name": path.name.split(".")[0], "license": "CC0-1.0", "split": "line"}
        for path in paths
    ]
    return STAGE.run(STAGE.Settings(sources=sources, **settings), {}, context)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def reasons(context: Any) -> dict[str, str]:
    """id -> why it was dropped, or an empty string."""
    tables = CuratedCorpus(context.folder).tables(("id", "stage", "reason"))
    return {row["id"]: row["reason"] for _, table in tables for row in table.to_pylist()}


def test_the_whole_way(tmp_path: Path, make_context: Make) -> None:
    good = sample_texts(40_000, words_per_text=60)
    near = good[0].replace("\n", " ") + " postscript"
    first = jsonl(tmp_path / "first.jsonl", [*good[:50], "too short", good[3], "  " + good[4] + "\r\n"])
    second = jsonl(tmp_path / "second.jsonl", [*good[50:], near, " \u00a0 "])
    context = make_context()
    rules = OFF | {"min_words": 10}
    outcome = curate(context, [first, second], rules=rules, validation_share=0.2)

    corpus = Corpus(context.folder)
    kept = {split: list(corpus.iter_documents(split)) for split in corpus.splits}
    texts = [d.text for split in kept.values() for d in split]
    assert sorted(texts) == sorted([*good[1:], near])
    assert {s: (len(d), sum(len(x.text.encode()) for x in d)) for s, d in kept.items()} == {
        s: (x.documents, x.bytes) for s, x in outcome.spec.splits.items()
    }
    assert 0 < len(kept["validation"]) < 0.4 * len(texts)
    found = reasons(context)
    ids = list(found)
    assert {id: reason for id, reason in found.items() if reason} == {
        ids[0]: "duplicate.near",
        ids[50]: "rules.min_words",
        ids[51]: "duplicate.exact",
        ids[52]: "duplicate.exact",
        ids[-1]: "extract.empty",
    }
    assert ids[0] == "first:first.jsonl:0"
    total = outcome.facts["total"]
    assert total["in"]["documents"] == len(good) + 5
    assert outcome.spec.bytes_read == total["in"]["text_bytes"]
    assert [(x.name, x.of) for x in outcome.licenses] == [("CC0-1.0", "first"), ("CC0-1.0", "second")]
    short = next(s for s in read_samples(context.folder) if s["reason"].endswith("min_words"))
    assert (short["value"], short["threshold"], short["text"]) == (2.0, 10, "too short")


TEXTS = st.lists(
    st.sampled_from(["a", "", "word " * 30, *sample_texts(3_000, words_per_text=40)]) | st.text(max_size=20),
    max_size=12,
)


@given(one=TEXTS, other=TEXTS, share=st.sampled_from([0.0, 0.3]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_account_closes_for_any_corpus(
    tmp_path: Path, make_context: Make, one: list[str], other: list[str], share: float
) -> None:
    paths = [jsonl(tmp_path / "one.jsonl", one), jsonl(tmp_path / "other.jsonl", other)]
    context = make_context()
    try:
        outcome = curate(context, paths, rules=OFF | {"min_words": 2}, validation_share=share)
    except ArrieroError as error:
        assert any(said in str(error) for said in ("left after curation", "no document", "gave a text"))
        return
    for account in [*outcome.facts["sources"].values(), outcome.facts["total"]]:
        for unit in ("documents", "bytes", "text_bytes"):
            dropped = sum(reason[unit] for reason in account["dropped"].values())
            assert account["in"][unit] == account["kept"][unit] + dropped
    total = outcome.facts["total"]
    assert total["in"]["documents"] == len(one + other)
    assert total["in"]["text_bytes"] <= sum(len(normalise(t).encode()) for t in one + other)
    corpus = Corpus(context.folder)
    kept = [d for split in corpus.splits for d in corpus.iter_documents(split)]
    assert len(kept) == total["kept"]["documents"] == len({d.id for d in kept})
    assert {d.id for d in kept} == {id for id, reason in reasons(context).items() if not reason}


def test_same_bytes_again_in_any_order_and_after_being_stopped(tmp_path: Path, make_context: Make) -> None:
    texts = sample_texts(60_000, words_per_text=60)
    paths = [jsonl(tmp_path / f"s{n}.jsonl", texts[n::3]) for n in range(3)]
    small = {"rules": OFF, "split_bytes": 4096, "shard_bytes": 8192}
    whole, backwards = make_context(), make_context()
    curate(whole, paths, **small)
    curate(backwards, paths[::-1], **small)
    assert contents(backwards.folder) == contents(whole.folder)
    assert len(Corpus(whole.folder).files["train"]) > 3
    stops = 0
    stopped = make_context()
    for number, allowed in enumerate((1, 3, 6, 10, 20, 10_000)):
        context = type(stopped)(stopped.state.parent / f"try{number}", stop_after=allowed)
        context.state = stopped.state
        try:
            curate(context, paths, **small)
        except Interrupted:
            stops += 1
        else:
            assert contents(context.folder) == contents(whole.folder)
            break
    assert stops >= 3


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_same_bytes_by_any_number_of_processes(tmp_path: Path, make_context: Make, workers: int) -> None:
    texts = [text + " tail" * (n % 3) for n, text in enumerate(sample_texts(60_000, words_per_text=60) * 2)]
    paths = [jsonl(tmp_path / f"s{n}.jsonl", texts[n::3]) for n in range(3)]
    small = {
        "rules": OFF,
        "split_bytes": 4096,
        "shard_bytes": 8192,
        "dedup": {"lines": {}, "substring": {"words": 20}},
    }
    inline, pool = make_context(), make_context()
    curate(inline, paths, **small, executor={"kind": "inline"})
    curate(pool, paths, **small, executor={"kind": "pool", "workers": workers})
    assert contents(pool.folder) == contents(inline.folder)


def test_a_finished_split_is_not_read_again(tmp_path: Path, make_context: Make) -> None:
    texts = sample_texts(20_000, words_per_text=60)
    paths = [jsonl(tmp_path / f"s{n}.jsonl", texts[n::2]) for n in range(2)]
    context = make_context(stop_after=1)
    with pytest.raises(Interrupted):
        curate(context, paths, rules=OFF)
    assert (context.state / "parts" / "s0-00000" / "part.json").is_file()
    again = make_context()
    again.state = context.state
    size = paths[0].stat().st_size
    paths[0].write_text("this is no JSON any more".ljust(size))
    assert curate(again, paths, rules=OFF).facts["total"]["in"]["documents"] == len(texts)


def test_max_bytes_stops_before_it_is_passed_over_all_files(tmp_path: Path, make_context: Make) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        jsonl(folder / f"{number}.jsonl", [f"{number} {line} word" for line in range(4)])
    context = make_context()
    source = {"path": folder, "name": "some", "license": "x", "max_bytes": 60}
    STAGE.run(STAGE.Settings(sources=[source], rules=OFF, dedup={"threshold": None}), {}, context)
    kept = [d.text for split in ("train", "validation") for d in Corpus(context.folder).iter_documents(split)]
    assert sorted(kept) == [
        "0 0 word",
        "0 1 word",
        "0 2 word",
        "0 3 word",
        "1 0 word",
        "1 1 word",
        "1 2 word",
    ]


def test_a_source_of_which_nothing_can_be_read_is_an_error(tmp_path: Path, make_context: Make) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "x"}\n' * 3)
    with pytest.raises(
        ArrieroError, match=r"source a: none of 3 records gave a text; the first, .*there is no field 'text'"
    ):
        curate(make_context(), [path], rules=OFF)


def test_near_duplicates_never_stand_on_both_sides(tmp_path: Path, make_context: Make) -> None:
    texts = [
        t + " " + " ".join(["tail"] * n) for t in sample_texts(30_000, words_per_text=80) for n in range(4)
    ]
    context = make_context()
    curate(context, [jsonl(tmp_path / "a.jsonl", texts)], rules=OFF, validation_share=0.5)
    starts = [
        {d.text[:60] for d in Corpus(context.folder).iter_documents(split)}
        for split in ("train", "validation")
    ]
    assert starts[0] and starts[1] and not starts[0] & starts[1]


def test_dedup_can_be_switched_off(tmp_path: Path, make_context: Make) -> None:
    texts = [*sample_texts(5_000), *sample_texts(5_000)]
    path = jsonl(tmp_path / "a.jsonl", texts)
    off = {"exact": False, "threshold": None}
    assert curate(make_context(), [path], rules=OFF, dedup=off).facts["total"]["kept"]["documents"] == len(
        texts
    )
    only_near = curate(make_context(), [path], rules=OFF, dedup={"exact": False})
    assert list(only_near.facts["total"]["dropped"]) == ["duplicate.near"]


def test_an_empty_corpus_names_the_rule_that_dropped_most(tmp_path: Path, make_context: Make) -> None:
    path = jsonl(tmp_path / "a.jsonl", ["one two", "three", "", "4 5 6 7 8 9 10"])
    with pytest.raises(ArrieroError, match=r"of 4 documents rules\.min_words dropped 2") as caught:
        curate(make_context(), [path], rules=OFF | {"min_words": 5, "min_alphabetic_share": 0.5})
    assert "\n" not in str(caught.value)
    with pytest.raises(ArrieroError, match="no document in"):
        curate(make_context(), [jsonl(tmp_path / "b.jsonl", [])])
    settings = STAGE.Settings(sources=[{"path": path, "name": "a", "license": "x"}], rules={"min_words": 100})
    with pytest.raises(ArrieroError, match="would be empty"):
        STAGE.plan(settings, {}, DEVICE)


def test_settings_are_checked(tmp_path: Path) -> None:
    source = {"path": tmp_path / "a.txt", "name": "a", "license": "x"}
    for wrong in (
        {"sources": []},
        {"sources": [source, source]},
        {"sources": [source], "rules": {"min_wrods": 1}},
    ):
        with pytest.raises(ValidationError):
            STAGE.Settings(**wrong)


@pytest.mark.parametrize("repeat", [1, 12])
def test_plan_is_near_the_truth(tmp_path: Path, make_context: Make, repeat: int) -> None:
    texts = [f"{text} {n}" for n, text in enumerate(sample_texts(60_000, words_per_text=70) * repeat)]
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(
        gzip.compress("".join(json.dumps({"text": t}) + "\n" for t in [*texts, "short"]).encode())
    )
    settings = STAGE.Settings(
        sources=[{"path": path, "name": "a", "license": "x"}],
        rules={"min_stop_words": None},
        dedup={"exact": False, "threshold": None},
    )
    plan = STAGE.plan(settings, {}, DEVICE)
    truth = STAGE.run(settings, {}, make_context()).spec
    assert plan.spec.bytes_read == pytest.approx(truth.bytes_read, rel=0.02)
    planned, true = (sum(s.bytes for s in spec.splits.values()) for spec in (plan.spec, truth))
    assert planned == pytest.approx(true, rel=0.06)
    assert plan.spec.splits["train"].documents == pytest.approx(truth.splits["train"].documents, rel=0.1)
    assert plan.estimate.seconds.value == pytest.approx(0.2 + plan.spec.bytes_read / 1e6, rel=0.01)


def test_probe_measures_a_rate() -> None:
    assert STAGE.probe()["curate.bytes_per_s"].per_s > 10_000


def test_corpus_refuses_what_is_none(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="holds no corpus"):
        Corpus(tmp_path)
    with gzip.open(tmp_path / "train.jsonl.gz", "wt") as file:
        file.write('{"id": "x"}\n')
    with pytest.raises(ArrieroError, match="is no document"):
        list(Corpus(tmp_path).iter_documents("train"))
    with pytest.raises(ArrieroError, match="no split 'valid'"):
        list(Corpus(tmp_path).iter_documents("valid"))


@pytest.mark.parametrize(("frames", "pieces"), [(1, "is compressed in one piece"), (4, "")])
def test_the_plan_names_what_only_one_worker_can_read(tmp_path: Path, frames: int, pieces: str) -> None:
    import zstandard

    lines = [json.dumps({"text": text}) + "\n" for text in sample_texts(60_000)]
    parts = ["".join(lines[n::frames]).encode() for n in range(frames)]
    path = tmp_path / "web.jsonl.zst"
    path.write_bytes(b"".join(map(zstandard.compress, parts)))
    (tmp_path / "small.jsonl.gz").write_bytes(gzip.compress("".join(lines[:2]).encode()))
    packed = gzip.compress("".join(lines).encode())
    (tmp_path / "large.jsonl.gz").write_bytes(packed)
    for name, said in (
        ("web.jsonl.zst", pieces),
        ("small.jsonl.gz", ""),
        ("large.jsonl.gz", "large.jsonl.gz ("),
    ):
        source = {"path": tmp_path / name, "name": "web", "license": "CC0-1.0"}
        settings = STAGE.Settings(sources=[source], rules=OFF, split_bytes=4000)
        notes = STAGE.plan(settings, {}, DEVICE).notes[1:]
        assert (said in notes[0]) if said else not notes
        limited = STAGE.Settings(sources=[source | {"max_bytes": 9000}], rules=OFF, split_bytes=4000)
        assert not STAGE.plan(limited, {}, DEVICE).notes[1:], "a source with a limit is one job anyway"
