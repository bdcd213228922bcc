from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.duplicates import Duplicate, exact_duplicates, near_duplicates
from arriero.data.minhash import MinHash, Shingler, candidate_probability, jaccard
from arriero.data.split import validation_mask
from arriero.errors import ArrieroError

MINHASH = MinHash(14, 8)


def find(texts: list[str], threshold: float = 0.8, size: int = 5) -> dict[int, Duplicate]:
    shingler = Shingler(size)
    sets = [shingler.shingles(text) for text in texts]
    signatures = np.stack([MINHASH.signature(s) for s in sets])
    lengths = np.array(list(map(len, texts)), np.int64)
    return near_duplicates(np.arange(len(texts)), lengths, signatures, sets.__getitem__, MINHASH, threshold)


def words(seed: int, n: int) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(10_000)}" for _ in range(n)]


def test_shingles_are_sets_of_word_ngrams() -> None:
    shingler = Shingler(3)
    assert len(shingler.shingles("A b c d")) == 2
    assert np.array_equal(shingler.shingles("A b, c!"), shingler.shingles("a B c"))
    assert len(shingler.shingles("a b a b a b a")) == 2
    assert len(shingler.shingles("a b")) == 1
    assert len(shingler.shingles(" ... ")) == 0
    assert not np.array_equal(shingler.shingles("a b c"), shingler.shingles("c b a"))


def test_hashes_never_change() -> None:
    """Corpora made on different machines and days must agree."""
    shingles = Shingler(5).shingles("the quick brown fox jumps over the lazy dog")
    digest = hashlib.sha256(shingles.tobytes() + MINHASH.signature(shingles).tobytes())
    digest.update(MINHASH.band_keys(MINHASH.signature(shingles)[None]).tobytes())
    assert digest.hexdigest() == "c0aa3a53eb82f808053b919803b9a3a03a20bede601e14069d8d08dfb22a3167"


@given(st.lists(st.integers(0, 60)), st.lists(st.integers(0, 60)))
def test_jaccard_is_that_of_sets(one: list[int], other: list[int]) -> None:
    a, b = set(one), set(other)
    found = jaccard(np.array(sorted(a), np.uint64), np.array(sorted(b), np.uint64))
    assert found == pytest.approx(len(a & b) / len(a | b) if a | b else 0.0)


def test_signatures_estimate_similarity() -> None:
    rng = np.random.default_rng(0)
    wide = MinHash(100, 10)
    for share in (0.2, 0.5, 0.9):
        pool = rng.integers(0, 2**63, 8000).astype(np.uint64)  # more than one block
        n = int(share * 8000)
        one, other = np.unique(pool[: 4000 + n // 2]), np.unique(pool[4000 - n // 2 :])
        agree = float((wide.signature(one) == wide.signature(other)).mean())
        assert agree == pytest.approx(jaccard(one, other), abs=0.06)


def test_candidates_are_found_as_often_as_theory_says() -> None:
    rng = np.random.default_rng(1)
    rounds, n = 300, 200
    for similarity in (0.6, 0.8, 0.9):
        shared = round(2 * n * similarity / (1 + similarity))
        hits = 0
        for _ in range(rounds):
            pool = rng.integers(0, 2**63, 2 * n - shared).astype(np.uint64)
            signatures = np.stack([MINHASH.signature(pool[:n]), MINHASH.signature(pool[n - shared :])])
            keys = MINHASH.band_keys(signatures)
            hits += bool((keys[0] == keys[1]).any())
        expected = candidate_probability(similarity, 14, 8)
        assert hits / rounds == pytest.approx(
            expected, abs=4 * (expected * (1 - expected) / rounds) ** 0.5 + 0.01
        )
    assert candidate_probability(0.8, 14, 8) == pytest.approx(0.924, abs=0.001)  # FineWeb's published figure


def test_the_longest_survives_then_the_first() -> None:
    base = words(1, 100)
    texts = [
        " ".join(base),
        " ".join([*base, "and", "more"]),
        "other text " + " ".join(words(2, 100)),
        " ".join(base[:-1]),
    ]
    found = find(texts)
    assert {n: d.survivor for n, d in found.items()} == {0: 1, 3: 1}
    assert found[0].similarity == pytest.approx(96 / 98)
    same_length = [" ".join(base), " ".join([*base[:-1], "x" * len(base[-1])])]
    assert list(find(same_length)) == [1]


def test_chains_do_not_melt_together() -> None:
    """a~b and b~c but not a~c: c stays, because its likeness to the survivor a is too small."""
    base = words(3, 120)
    a = base[:100] + ["tail"] * 8
    b = base[:104]
    c = base[8:104]
    shingles = [Shingler(5).shingles(" ".join(t)) for t in (a, b, c)]
    threshold = (jaccard(shingles[1], shingles[2]) + jaccard(shingles[0], shingles[2])) / 2
    assert jaccard(shingles[0], shingles[1]) > threshold
    found = find([" ".join(t) for t in (a, b, c)], threshold)
    assert {n: d.survivor for n, d in found.items()} == {1: 0}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1, max_size=12))
@settings(max_examples=40)
def test_survivors_survive_and_every_drop_is_similar_to_its_own(parts: list[tuple[int, int]]) -> None:
    texts = [" ".join(words(seed, 60)[: 60 - cut]) for seed, cut in parts]
    found = find(texts)
    sets = [Shingler(5).shingles(text) for text in texts]
    for number, duplicate in found.items():
        assert duplicate.survivor not in found
        assert jaccard(sets[number], sets[duplicate.survivor]) == duplicate.similarity >= 0.8
        assert (-len(texts[duplicate.survivor]), duplicate.survivor) < (-len(texts[number]), number)
    for text in {*texts}:  # of equal texts exactly one is left, at most
        assert sum(n not in found for n, other in enumerate(texts) if other == text) <= 1


def test_texts_without_words_are_no_near_duplicates() -> None:
    assert find(["...", "!!!", ""]) == {}


def test_exact_duplicates_fall_to_the_first() -> None:
    found = exact_duplicates([b"a", b"b", b"a", b"a"])
    assert {n: d.survivor for n, d in found.items()} == {2: 0, 3: 0}


@given(st.sets(st.binary(min_size=1), min_size=40, max_size=60), st.integers(0, 5))
@settings(max_examples=30)
def test_adding_a_document_moves_no_other(digests: set[bytes], seed: int) -> None:
    rows = sorted(digests)
    mask = validation_mask(rows, 0.3, seed)
    fewer = validation_mask(rows[:-1], 0.3, seed)
    assert np.array_equal(mask[:-1], fewer)


def test_split_shares_and_small_corpora() -> None:
    rows = [str(n).encode() for n in range(4000)]
    assert validation_mask(rows, 0.05, 0).mean() == pytest.approx(0.05, abs=0.012)
    assert not np.array_equal(validation_mask(rows, 0.05, 0), validation_mask(rows, 0.05, 1))
    assert not validation_mask(rows, 0.0, 0).any()
    for n in (2, 3):
        for seed in range(20):
            assert 0 < validation_mask(rows[:n], 0.05, seed).sum() < n
            assert 0 < validation_mask(rows[:n], 0.5, seed).sum() < n
    with pytest.raises(ArrieroError, match="one document is left"):
        validation_mask(rows[:1], 0.05, 0)
    assert validation_mask(rows[:1], 0.0, 0).tolist() == [False]
