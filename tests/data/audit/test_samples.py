"""Samples: fixed size, the same for any cut into parts and any order."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.audit.conftest import Build, Builder, Given, prose

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.personal import blot
from arriero.data.audit.reservoir import Reservoir
from arriero.data.audit.samples import SAMPLES_FILE, SampleSettings, read_samples, write_samples
from arriero.data.filters.presets import rules_of
from arriero.data.filters.rules import Rules
from arriero.data.records import Edit


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=5)), max_size=60, unique=True),
    st.integers(0, 5),
    st.randoms(),
)
def test_a_reservoir_does_not_see_order_or_cuts(
    members: list[tuple[str, str]], size: int, rng: random.Random
) -> None:
    whole: Reservoir[str, str] = Reservoir(size, 3)
    for group, id in members:
        whole.offer(group, id, id)
    merged: Reservoir[str, str] = Reservoir(size, 3)
    rng.shuffle(members)
    for start in range(0, len(members), 7):
        part: Reservoir[str, str] = Reservoir(size, 3)
        for group, id in members[start : start + 7]:
            part.offer(group, id, id)
        merged.merge(part)
    assert dict(merged.items()) == dict(whole.items())
    sizes = Counter(group for group, _ in members)
    assert {g: len(found) for g, found in whole.items()} == {
        g: min(n, size) for g, n in sizes.items() if size
    }


def test_another_seed_takes_others() -> None:
    found = []
    for seed in (1, 2):
        reservoir: Reservoir[str, int] = Reservoir(5, seed)
        for n in range(1000):
            reservoir.offer("all", str(n), n)
        found.append(dict(reservoir.items())["all"])
    assert len(set(found[0]) & set(found[1])) < 3


def test_the_file_is_the_same_for_any_parts(build: Build) -> None:
    rules = rules_of(Rules())
    bytes_of = []
    for number, rows in enumerate((3, 11, 100)):
        builder = build(rows_a_part=rows, name=f"c{number}")
        corpus = CuratedCorpus(builder.folder)
        assert write_samples(corpus, SampleSettings(size=2), 5, rules)
        samples = list(read_samples(builder.folder))
        bytes_of.append([{k: v for k, v in s.items() if k not in ("part", "row")} for s in samples])
    assert bytes_of[0] == bytes_of[1] == bytes_of[2]
    assert Counter((s["kind"], s["reason"]) for s in bytes_of[0]).most_common(1)[0][1] == 2


def test_what_a_sample_says(build: Build) -> None:
    builder = build()
    corpus = CuratedCorpus(builder.folder)
    write_samples(corpus, SampleSettings(), 0, rules_of(Rules()))
    rejected = {s["id"]: s for s in read_samples(builder.folder, "rejected")}
    short = next(s for s in rejected.values() if s["reason"] == "gopher.min_words")
    assert short["value"] < short["threshold"] == 50
    assert short["text"]
    broken = next(s for s in rejected.values() if s["reason"] == "read.truncated")
    assert broken["text"] is None
    assert "bad" in broken["detail"]
    duplicate = next(s for s in rejected.values() if s["reason"] == "duplicate.near")
    assert duplicate["survivor"] == "web:4"
    assert duplicate["value"] == 0.97
    near = {s["id"] for s in read_samples(builder.folder, "near_miss")}
    assert near == {row["id"] for row in builder.rows if row.get("near_miss")}
    assert (builder.folder / SAMPLES_FILE).is_file()


def test_kept_by_little(build: Build) -> None:
    builder = build([Given(prose(1, 47)), Given(prose(2, 400)), Given(prose(3, 20))])
    corpus = CuratedCorpus(builder.folder)
    words = builder.rows[0]["f_plain_words"]
    assert 50 <= words <= 55, words
    write_samples(corpus, SampleSettings(), 0, rules_of(Rules()))
    assert ("web:0", "gopher.min_words") in {
        (s["id"], s["reason"]) for s in read_samples(builder.folder, "just_kept")
    }


def test_personal_data_is_in_no_sample(build: Build, built: Builder) -> None:
    text = "mail me: someone@example.org\n" + prose(3, 20)
    builder = build([Given(text, edits=[Edit(9, 28, "<email>", "pii.email")])])
    write_samples(CuratedCorpus(builder.folder), SampleSettings(), 0)
    (sample,) = read_samples(builder.folder)
    assert "someone" not in str(sample)
    assert len(sample["before"]) == len(text)
    assert sample["text"].startswith("mail me: <email>")


@given(
    st.text(max_size=30), st.integers(0, 30), st.integers(0, 30), st.sampled_from(["pii.email", "lines.c4"])
)
def test_blotting_keeps_places(text: str, start: int, length: int, reason: str) -> None:
    found = blot(text, [Edit(start, start + length, "x", reason)])
    assert len(found) == len(text) or start > len(text)
    if reason != "pii.email":
        assert found == text
    elif start + length <= len(text):
        assert found == text[:start] + "█" * length + text[start + length :]
