from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.dedup import clusters
from arriero.data.dedup.clusters import cluster_ranges, components, fallen
from arriero.data.dedup.exact import exact_drops
from arriero.data.dedup.minhash import EDGE, KEY, band_keys, bucket_edges
from arriero.data.dedup.rows import pack
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import Dedup
from arriero.data.dedup.shingles import jaccard, shared
from arriero.data.execute import ExecutorSettings, make_executor
from arriero.data.facts import FactsSettings, shingle_hashes

SETS = st.sets(st.integers(0, 30), max_size=20)
EDGES = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=25)


def array(values: Any) -> Any:
    return np.array(sorted(values), np.uint64)


@given(SETS, SETS)
def test_jaccard_is_that_of_sets(a: set[int], b: set[int]) -> None:
    assert shared(array(a), array(b)) == len(a & b)
    assert jaccard(array(a), array(b)) == (len(a & b) / len(a | b) if a | b else 0.0)


@given(st.lists(EDGES, max_size=4))
def test_components_are_those_of_a_search(batches: list[list[tuple[int, int]]]) -> None:
    arrays = [np.array(batch, EDGE) for batch in batches]
    rows, labels = components(iter(arrays), lambda: iter(arrays))
    neighbours: dict[int, set[int]] = {}
    for a, b in (edge for batch in batches for edge in batch):
        neighbours.setdefault(a, {a}).add(b)
        neighbours.setdefault(b, {b}).add(a)
    assert rows.tolist() == sorted(neighbours)
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        seen, new = set(), {row}
        while new:
            seen |= new
            new = {n for s in new for n in neighbours[s]} - seen
        assert label == min(seen)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=30))
def test_edges_join_every_bucket(keys: list[tuple[int, int]]) -> None:
    edges = bucket_edges(
        pack(KEY, key=[k for k, _ in keys], row=[r for _, r in keys]) if keys else np.empty(0, KEY)
    )
    expected: set[tuple[int, int]] = set()
    for key in {k for k, _ in keys}:
        rows = sorted({r for k, r in keys if k == key})
        expected |= {(rows[0], r) for r in rows[1:]} | set(itertools.pairwise(rows))
    assert set(map(tuple, edges.tolist())) == expected and len(edges) == len(expected)


def test_band_keys_are_equal_just_where_bands_are() -> None:
    draw = np.random.default_rng(0)
    signatures = draw.integers(0, 3, (200, 12)).astype(np.uint32)
    keys = band_keys(signatures, bands=4, rows=3, groupings=3)
    assert keys.shape == (200, 12)
    bands = signatures.reshape(200, 4, 3)
    for one in range(4):
        same_keys = keys[:, None, one] == keys[None, :, one]
        same_band = (bands[:, None, one] == bands[None, :, one]).all(-1)
        assert (same_keys == same_band).all()
        assert not np.isin(keys[:, one], np.delete(keys, one, axis=1)).any(), "bands do not mix"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_exact_groups_are_those_of_a_dictionary(documents: list[tuple[int, int]]) -> None:
    dtype = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<i8"), ("score", "<f8")])
    table = np.array([(d // 2, d % 2, row, score) for row, (d, score) in enumerate(documents)], dtype)
    drops = exact_drops(table[::-1])
    expected = {}
    for digest in {d for d, _ in documents}:
        rows = [row for row, (d, _) in enumerate(documents) if d == digest]
        best = min(rows, key=lambda row: (-documents[row][1], row))
        expected |= {row: (best, min(rows), len(rows)) for row in rows if row != best}
    found = {int(d["row"]): (int(d["survivor"]), int(d["cluster"]), int(d["size"])) for d in drops}
    assert found == expected


class Sets:
    """A store and figures of given sets; signatures that always agree."""

    def __init__(self, sets: list[set[int]]) -> None:
        self.sets = sets

    def get(self, row: int) -> Any:
        return array(self.sets[row])

    def of(self, rows: Any) -> Any:
        return np.array([float(len(self.sets[row])) for row in rows]), np.zeros((len(rows), 4), np.uint32)


@settings(max_examples=100)
@given(st.lists(st.sets(st.integers(0, 7), min_size=1), min_size=1, max_size=10), st.sampled_from([0.5, 0.8]))
def test_each_falls_to_a_survivor_it_is_like_and_survivors_are_unlike(
    sets: list[set[int]], threshold: float
) -> None:
    given = Sets(sets)
    drops = fallen(np.arange(len(sets)), given, given, threshold)  # type: ignore[arg-type]
    dropped = {row for row, *_ in drops}
    for row, survivor, _, _, value, _ in drops:
        assert survivor not in dropped
        assert value == len(sets[row] & sets[survivor]) / len(sets[row] | sets[survivor]) >= threshold
    survivors = [row for row in range(len(sets)) if row not in dropped]
    for a in survivors:
        for b in survivors:
            assert a == b or len(sets[a] & sets[b]) / len(sets[a] | sets[b]) < threshold


def test_a_chain_of_versions_does_not_melt_into_one(corpus: ModuleType, tmp_path: Path) -> None:
    """Each version is like the next; the ends are not alike (the fault that ate whole sources elsewhere)."""
    pool = corpus.words(2000, 5)
    versions = [" ".join(pool[step * 12 : step * 12 + 300]) for step in range(40)]
    parts = corpus.write_parts(tmp_path / "parts", [versions[:20], versions[20:]])
    report = run_dedup(
        parts, Dedup(max_cluster=10), make_executor(ExecutorSettings(kind="inline")), tmp_path / "work"
    )
    kept = report.total.kept
    assert 10 <= kept < 40, "one survivor every few versions"
    assert any("links 40 documents" in alarm for alarm in report.alarms)


def test_ranges_hold_whole_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_ROWS_A_JOB", 4)
    sizes = [2, 2, 2, 7, 1, 2]
    table = np.array(
        [(c, 10 * c + i) for c, n in enumerate(sizes) for i in range(n)], [("cluster", "<i8"), ("row", "<i8")]
    )
    assert cluster_ranges(table) == [(0, 4), (4, 13), (13, 16)]
    assert cluster_ranges(table[:0]) == []


def test_planted_near_duplicates_are_found_and_nothing_else(corpus: ModuleType, tmp_path: Path) -> None:
    """True pairs by brute force over all documents."""
    draw = np.random.default_rng(7)
    texts = [" ".join(corpus.words(int(draw.integers(60, 300)), 1000 + n)) for n in range(120)]
    for text in texts[:80]:
        words = text.split()
        for place in draw.choice(len(words), max(1, len(words) // int(draw.integers(30, 90))), replace=False):
            words[place] = f"new{place}"
        texts.append(" ".join(words))
    order = draw.permutation(len(texts))
    texts = [texts[i] for i in order]
    parts = corpus.write_parts(tmp_path / "parts", [texts[:70], texts[70:140], texts[140:]])
    report = run_dedup(parts, Dedup(), make_executor(ExecutorSettings(kind="inline")), tmp_path / "work")
    sets = [set(shingle_hashes(text, FactsSettings()).tolist()) for text in texts]
    true = {
        (a, b)
        for a in range(len(sets))
        for b in range(a)
        if len(sets[a] & sets[b]) >= 0.8 * len(sets[a] | sets[b])
    }
    assert len(true) > 30, "the test is about something"
    dropped = report.total.documents - report.total.kept
    assert dropped <= len(true) and dropped >= 0.95 * len(true)
