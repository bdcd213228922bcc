from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.models.ngram import NGram
from arriero.models.ngram_smoothing import FALLBACK_DISCOUNTS, modified_discounts
from arriero.models.protocol import LanguageModel

corpora = st.integers(2, 9).flatmap(
    lambda v: st.tuples(st.just(v), st.lists(st.lists(st.integers(0, v - 1), max_size=30), max_size=8))
)


def counts_of_counts(counts: Iterable[int]) -> list[int]:
    found = Counter(counts)
    return [found[k] for k in (1, 2, 3, 4)]


# ---------------------------------------------------------------- an independent, slow implementation


class Slow:
    """Interpolated modified Kneser-Ney straight from the definitions, with dictionaries."""

    def __init__(self, documents: list[list[int]], order: int, vocab_size: int) -> None:
        self.order, self.v = order, vocab_size
        self.counts: dict[int, Counter[tuple[int, ...]]] = {}
        for n in range(1, order + 1):
            self.counts[n] = self._highest(documents, n) if n == order else self._continuations(documents, n)

    @staticmethod
    def _highest(documents: list[list[int]], n: int) -> Counter[tuple[int, ...]]:
        found: Counter[tuple[int, ...]] = Counter()
        for document in documents:
            for end in range(max(n, 2), len(document) + 1):
                found[tuple(document[end - n : end])] += 1
        return found

    @staticmethod
    def _continuations(documents: list[list[int]], n: int) -> Counter[tuple[int, ...]]:
        before: dict[tuple[int, ...], set[int]] = {}
        found: Counter[tuple[int, ...]] = Counter()
        for document in documents:
            for start in range(len(document) - n + 1):
                gram = tuple(document[start : start + n])
                if start:
                    before.setdefault(gram, set()).add(document[start - 1])
                elif n > 1:
                    found[gram] += 1
        for gram, tokens in before.items():
            found[gram] += len(tokens)
        return found

    def p(self, token: int, context: tuple[int, ...]) -> float:
        if len(context) > self.order - 1:
            context = context[len(context) - self.order + 1 :]
        n = len(context) + 1
        lower = self.p(token, context[1:]) if n > 1 else 1 / self.v
        counts = self.counts[n]
        d = (0.0, *modified_discounts(counts_of_counts(counts.values())))
        follow = {gram: c for gram, c in counts.items() if gram[:-1] == context}
        total = sum(follow.values())
        if not total:
            return lower
        gamma = sum(d[min(c, 3)] for c in follow.values()) / total
        c = follow.get((*context, token), 0)
        return (c - d[min(c, 3)]) / total + gamma * lower


# ---------------------------------------------------------------- discounts


def test_discounts_of_a_hand_worked_example() -> None:
    # n1 = 4, n2 = 2, n3 = 1, n4 = 1: Y = 4/8 = 1/2
    # D1 = 1 - 2 * 1/2 * 2/4 = 1/2; D2 = 2 - 3 * 1/2 * 1/2 = 5/4; D3 = 3 - 4 * 1/2 * 1/1 = 1
    assert modified_discounts(counts_of_counts([1, 1, 1, 1, 2, 2, 3, 4, 9, 0])) == (0.5, 1.25, 1.0)


def test_discounts_fall_back_where_counts_of_counts_give_none() -> None:
    assert modified_discounts(counts_of_counts([2, 2, 3])) == FALLBACK_DISCOUNTS  # nothing seen once
    assert modified_discounts(counts_of_counts([1, 2, 3, 3, 3])) == FALLBACK_DISCOUNTS  # D2 = 2 - 3 Y 3 < 0


def test_bigram_worked_by_hand() -> None:
    """Documents 0 1 2 / 0 1 1 over 4 tokens: all orders use the fall-back discounts 1/2, 1, 3/2."""
    model = NGram.fit([[0, 1, 2], [0, 1, 1]], 2, 4)
    # bigrams 01 (2), 12 (1), 11 (1). Continuation counts: token 1 after {0, 1} = 2, token 2 after {1} = 1.
    # P1(w) = (c - D(c)) / 3 + (1 + 1/2) / 3 * 1/4
    unigram = {w: Fraction(c) / 3 + Fraction(1, 8) for w, c in {0: 0, 1: 1, 2: Fraction(1, 2), 3: 0}.items()}
    assert sum(unigram.values()) == 1
    # context 1 has 12 and 11 once each: (1 - 1/2) / 2 + (1/2 + 1/2) / 2 * P1
    seen, unseen = Fraction(1, 4) + unigram[2] / 2, unigram[3] / 2
    p = model.distribution([1])
    assert p[2] == pytest.approx(float(seen)) and p[3] == pytest.approx(float(unseen))
    # context 0 has 01 twice: (2 - 1) / 2 + 1 / 2 * P1
    assert model.distribution([0])[1] == pytest.approx(float(Fraction(1, 2) + unigram[1] / 2))
    assert model.parameter_counts() == {"1-gram": 2, "2-gram": 3}


# ---------------------------------------------------------------- the whole model


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(1, 7), st.lists(st.integers(0, 1), max_size=8))
def test_probabilities_sum_to_one_after_any_context(
    corpus: tuple[int, list[list[int]]], order: int, context: list[int]
) -> None:
    vocab_size, documents = corpus
    p = NGram.fit(documents, order, vocab_size).distribution(context)
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    assert (p > 0).all()


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(1, 5), st.lists(st.lists(st.integers(0, 1), max_size=9), max_size=3))
def test_equals_the_definition(
    corpus: tuple[int, list[list[int]]], order: int, texts: list[list[int]]
) -> None:
    vocab_size, documents = corpus
    slow = Slow(documents, order, vocab_size)
    scores = NGram.fit(documents, order, vocab_size).token_logprobs(texts)
    assert [len(score) for score in scores] == [max(0, len(text) - 1) for text in texts]
    for text, score in zip(texts, scores, strict=True):
        for t, value in enumerate(score, start=1):
            assert value == pytest.approx(math.log(slow.p(text[t], tuple(text[:t]))), abs=1e-9)


def test_scoring_agrees_with_the_distribution() -> None:
    rng = np.random.default_rng(1)
    documents = [rng.integers(0, 30, 40) for _ in range(50)]
    model = NGram.fit(documents, 4, 30)
    text = rng.integers(0, 30, 60).tolist()
    for t, value in enumerate(model.token_logprobs([text])[0], start=1):
        assert value == pytest.approx(math.log(model.distribution(text[:t])[text[t]]), abs=1e-10)


def test_order_one_is_the_smoothed_unigram_and_ignores_the_context() -> None:
    counts = [4, 3, 2, 2, 1, 1, 1, 1]
    document = [8, *(token for token, c in enumerate(counts) for _ in range(c))]
    model = NGram.fit([document], 1, 10)
    # discounts as worked by hand above: 1/2, 5/4, 1; left over: 4 * 1/2 + 2 * 5/4 + 2 * 1 = 13/2 of 15
    expected = [(c - (0, 0.5, 1.25, 1, 1)[c]) / 15 + 6.5 / 15 / 10 for c in [*counts, 0, 0]]
    assert model.distribution([3, 3]) == pytest.approx(expected)
    assert model.distribution([]) == pytest.approx(expected)


def test_learns_what_a_context_tells() -> None:
    documents = [[0, 1, 2, 3] * 20, [0, 3, 2, 1] * 20]
    model = NGram.fit(documents, 3, 4)
    assert model.distribution([1, 2]).argmax() == 3 and model.distribution([3, 2]).argmax() == 1


def test_ngrams_do_not_reach_over_documents() -> None:
    apart, together = NGram.fit([[0, 1], [2, 3]], 2, 4), NGram.fit([[0, 1, 2, 3]], 2, 4)
    assert apart.parameter_counts()["2-gram"] == 2 and together.parameter_counts()["2-gram"] == 3


def test_nothing_to_learn_from_gives_the_uniform_distribution() -> None:
    for documents in ([], [[]], [[1]]):
        assert NGram.fit(documents, 3, 5).distribution([1, 2]) == pytest.approx(np.full(5, 0.2))


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    model = NGram.fit([rng.integers(0, 50, 300)], 4, 50)
    assert isinstance(model, LanguageModel)
    model.save(tmp_path / "ngram")
    again = NGram.load(tmp_path / "ngram")
    text = [rng.integers(0, 50, 100).tolist()]
    assert (again.token_logprobs(text)[0] == model.token_logprobs(text)[0]).all()
    assert again.parameter_counts() == model.parameter_counts()


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match=r"order 8 .* 1 to 7"):
        NGram.fit([[0]], 8, 2)
    with pytest.raises(ArrieroError, match="token id 7 lies outside the vocabulary of 5"):
        NGram.fit([[0, 7]], 2, 5)
    with pytest.raises(ArrieroError, match="token id -1"):
        NGram.fit([[0]], 2, 5).token_logprobs([[-1]])
    with pytest.raises(ArrieroError, match="holds no n-gram model"):
        NGram.load(tmp_path)
    NGram.fit([[0, 1]], 2, 2).save(tmp_path)
    tables = tmp_path / "ngram.safetensors"
    tables.write_bytes(tables.read_bytes()[:-5])
    with pytest.raises(ArrieroError, match="cannot be read"):
        NGram.load(tmp_path)
