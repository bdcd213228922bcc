from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.evaluation.bits_per_byte import score_documents, window_tokens, windows
from arriero.evaluation.documents import Documents, chosen_documents
from arriero.evaluation.forecast import expected_window_tokens


@given(st.integers(0, 400), st.integers(2, 50), st.data())
def test_every_token_but_the_first_is_scored_once_with_context_enough(
    length: int, context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context - 1))
    scored: list[int] = []
    for start, stop, first in windows(length, context, stride):
        assert 0 <= start < first <= stop <= length and stop - start <= context
        assert first - start >= min(first, context - stride), "as much context as the stride allows"
        scored += range(first, stop)
    assert scored == list(range(1, length))


class Parrot:
    """p(x_t) depends on the token and on how many tokens before it are in sight."""

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        return [-np.asarray([ids[t] + min(t, 3) / 10 for t in range(1, len(ids))]) for ids in sequences]

    def parameter_counts(self) -> dict[str, int]:
        return {}


def test_bits_of_documents_add_up_over_windows() -> None:
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 9, n) for n in (1, 2, 7, 8, 9, 30)]
    documents = Documents(ids, np.asarray([len(i) for i in ids]))
    told: list[int] = []
    # each window leaves at least 4 tokens before those that it scores, so the parrot sees what it needs
    found = score_documents(Parrot(), documents, context=8, stride=4, progress=told.extend)
    expected = [sum(d[t] + min(t, 3) / 10 for t in range(1, len(d))) / math.log(2) for d in ids]
    assert found == pytest.approx(expected)
    assert sum(told) == window_tokens([len(i) for i in ids], 8, 4)
    assert score_documents(Parrot(), documents, context=None) == pytest.approx(expected)


def test_expected_window_tokens_of_waiting_times() -> None:
    lengths = np.maximum(1, np.random.default_rng(0).exponential(300, 20000).astype(int))
    for context in (64, 256, 2048):
        real = window_tokens(lengths.tolist(), context) / len(lengths)
        assert expected_window_tokens(300, context) == pytest.approx(real, rel=0.05)


def test_documents_are_chosen_evenly() -> None:
    assert chosen_documents(5, 0) == chosen_documents(5, 9) == [0, 1, 2, 3, 4]
    chosen = chosen_documents(1000, 10)
    assert len(set(chosen)) == 10 and chosen[0] == 0 and chosen[-1] == 999
