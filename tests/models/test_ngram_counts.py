from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.models.ngram import NGram, fit_columns
from arriero.models.ngram_columns import BYTES_PER_RECORD, LEAST_RECORDS, Column, Workspace
from arriero.models.ngram_counts import Counts, count_ngrams

corpora = st.integers(2, 6).flatmap(
    lambda v: st.tuples(st.just(v), st.lists(st.lists(st.integers(0, v - 1), max_size=40), max_size=25))
)


def tiny(folder: Path | None, records: int) -> Workspace:
    """A workspace with pieces far shorter than a memory limit would ever make them."""
    work = Workspace(folder)
    work.records = records
    return work


def grams(counts: Counts, n: int, column: str) -> dict[tuple[int, ...], int]:
    """The table of an order as a dictionary."""
    keys = {m: level["keys"].read() for m, level in counts.levels.items()}
    found = {}
    for row, value in enumerate(counts.levels[n][column].read()):
        gram, at = [], row
        for m in range(n, 1, -1):
            at, token = divmod(int(keys[m][at]), counts.vocab_size)
            gram.append(token)
        found[(at, *reversed(gram))] = int(value)
    return found


@settings(max_examples=25, deadline=None)
@given(corpora, st.integers(2, 5), st.integers(2, 80))
def test_counting_in_pieces_on_disk_equals_counting_in_memory(
    corpus: tuple[int, list[list[int]]], order: int, records: int
) -> None:
    vocab_size, documents = corpus
    whole = count_ngrams(documents, order, vocab_size)
    with TemporaryDirectory() as folder:
        pieces = count_ngrams(iter(documents), order, vocab_size, tiny(Path(folder), records))
        assert (pieces.unigrams == whole.unigrams).all()
        assert (pieces.plain_unigrams == whole.plain_unigrams).all()
        for n in range(2, order + 1):
            for name in ("keys", "plain", "suffix", "adjusted"):
                a, b = pieces.levels[n][name].read(), whole.levels[n][name].read()
                assert a.tolist() == b.tolist(), (n, name)


@settings(max_examples=30, deadline=None)
@given(corpora, st.integers(1, 5), st.integers(1, 50))
def test_counts_are_those_of_a_dictionary(
    corpus: tuple[int, list[list[int]]], order: int, records: int
) -> None:
    vocab_size, documents = corpus
    counts = count_ngrams(documents, order, vocab_size, tiny(None, records))
    plain = {n: Counter[tuple[int, ...]]() for n in range(1, order + 1)}
    before: dict[int, dict[tuple[int, ...], set[int | str]]] = {n: {} for n in range(1, order + 1)}
    for number, document in enumerate(documents):
        for n in range(1, order + 1):
            for start in range(len(document) - n + 1):
                gram = tuple(document[start : start + n])
                if n == 1 and start == 0:
                    continue  # the first token of a document is never predicted
                plain[n][gram] += 1
                before[n].setdefault(gram, set()).add(document[start - 1] if start else f"start of {number}")
    assert {(t,): c for t, c in enumerate(counts.plain_unigrams.tolist()) if c} == dict(plain[1])
    if order > 1:
        found = {(t,): c for t, c in enumerate(counts.unigrams.tolist()) if c}
        assert found == {gram: len(tokens) for gram, tokens in before[1].items()}
    for n in range(2, order + 1):
        assert grams(counts, n, "plain") == dict(plain[n])
        expected = dict(plain[n]) if n == order else {gram: len(tokens) for gram, tokens in before[n].items()}
        assert grams(counts, n, "adjusted") == expected


@settings(max_examples=15, deadline=None)
@given(
    corpora,
    st.integers(1, 5),
    st.integers(3, 90),
    st.sampled_from(["modified_kneser_ney", "witten_bell"]),
    st.lists(st.integers(0, 2), max_size=3),
)
def test_a_model_is_the_same_to_the_last_bit_whatever_the_memory(
    corpus: tuple[int, list[list[int]]], order: int, records: int, smoothing: str, prune: list[int]
) -> None:
    vocab_size, documents = corpus
    cuts = [0, *sorted(prune)][:order]
    whole = NGram.fit(documents, order, vocab_size, smoothing, prune=cuts)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        work = tiny(root / "work", records)
        fit_columns(documents, order, vocab_size, smoothing, None, cuts, work).save(root / "a")
        whole.save(root / "b")
        for name in ("ngram.json", "ngram.safetensors"):
            assert (root / "a" / name).read_bytes() == (root / "b" / name).read_bytes()


class KilledError(Exception):
    pass


def test_a_killed_fit_goes_on_after_its_last_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 9, rng.integers(1, 60)) for _ in range(40)]
    whole = fit_columns(documents, 4, 9, "modified_kneser_ney", None, [0, 0, 1], tiny(tmp_path / "w", 500))
    whole.save(tmp_path / "whole")
    for limit in range(1, 200, 6):
        left = limit

        def progress(name: str, done: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError

        work = Workspace(tmp_path / "work", progress=progress)
        work.records = 500
        try:
            fitted = fit_columns(documents, 4, 9, "modified_kneser_ney", None, [0, 0, 1], work)
        except KilledError:
            continue
        break
    assert 20 < limit < 190
    fitted.save(tmp_path / "again")
    for name in ("ngram.json", "ngram.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_column_keeps_what_it_is_given(tmp_path: Path) -> None:
    for column in (Column(np.int64), Column(np.int64, tmp_path / "c")):
        assert len(column) == 0 and column.read().tolist() == []
        column.append(np.arange(3, dtype=np.int32))
        column.append(np.asarray([9]))
        assert (
            len(column) == 4 and column.read(1, 4).tolist() == [1, 2, 9] and column.read().dtype == np.int64
        )
        column.clear()
        assert len(column) == 0


def test_memory_limit_sets_the_pieces(tmp_path: Path) -> None:
    assert Workspace(tmp_path, 1000 * BYTES_PER_RECORD).records == 1000
    assert Workspace(tmp_path, 1).records == LEAST_RECORDS
    assert list(tiny(None, 4).pieces(9, "x")) == [(0, 4), (4, 8), (8, 9)]
    assert list(Workspace().pieces(9, "x")) == [(0, 9)] and list(Workspace().pieces(0, "x")) == [(0, 0)]


def test_a_corpus_too_large_for_keys_of_64_bits_is_refused() -> None:
    with pytest.raises(ArrieroError, match="too many to count"):
        count_ngrams([[1, 2]], 2, 1 << 40)
