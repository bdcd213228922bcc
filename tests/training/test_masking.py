"""Which tokens are hidden and what stands in their place: rates, determinism, whole words and spans."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers

from arriero.errors import ArrieroError
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training.objectives.draws import Draws
from arriero.training.objectives.masking import Masking, word_starts

VOCAB, MASK = 2000, 4
SPECIAL = np.arange(VOCAB) < 5
ORDINARY = np.arange(5, VOCAB)


def masking(**options: Any) -> Masking:
    return Masking(MASK, ORDINARY, SPECIAL, **options)


def test_rates_are_those_of_bert_within_three_sigma_over_a_million_tokens() -> None:
    plain, rng = masking(), np.random.default_rng(0)
    counts = {"chosen": 0, "masked": 0, "random": 0, "kept": 0}
    tokens = 0
    for sample in range(8000):
        row = np.concatenate([[2], rng.integers(5, VOCAB, 126), [3]])
        hidden, places = plain.apply(row, Draws(7, 0, sample))
        untouched = np.setdiff1d(np.arange(128), places)
        assert (hidden[untouched] == row[untouched]).all()
        assert not SPECIAL[row[places]].any() and len(set(places.tolist())) == len(places)
        now, before = hidden[places], row[places]
        counts["chosen"] += len(places)
        counts["masked"] += int((now == MASK).sum())
        counts["kept"] += int((now == before).sum())
        counts["random"] += int(((now != MASK) & (now != before)).sum())
        tokens += 126
    assert tokens >= 1_000_000

    def near(found: int, share: float, of: int) -> bool:
        return abs(found - share * of) <= 3 * math.sqrt(of * share * (1 - share))

    n = counts["chosen"]
    by_chance = 0.1 / len(ORDINARY)  # a random token may be the one that stood there
    assert near(n, 0.15, tokens)
    assert near(counts["masked"], 0.8, n)
    assert near(counts["random"], 0.1 - by_chance, n)
    assert near(counts["kept"], 0.1 + by_chance, n)


def test_random_tokens_are_even_over_the_ordinary_ones_and_never_special() -> None:
    few = Masking(MASK, np.arange(5, 15), SPECIAL)
    row = np.full(4000, 1999)
    drawn = np.concatenate(
        [
            hidden[places][(hidden[places] != MASK) & (hidden[places] != 1999)]
            for hidden, places in (few.apply(row, Draws(1, 0, i)) for i in range(60))
        ]
    )
    counts = np.bincount(drawn, minlength=15)
    assert counts[:5].sum() == 0
    expected = len(drawn) / 10
    assert ((counts[5:15] - expected) ** 2 / expected).sum() < 33.7  # chi-square, 9 degrees, p = 0.0001


def test_a_mask_is_a_pure_function_of_seed_epoch_and_sample() -> None:
    row = np.arange(100, 160)
    first = masking().apply(row, Draws(3, 2, 11))
    again = masking().apply(row, Draws(3, 2, 11))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    others = [Draws(4, 2, 11), Draws(3, 3, 11), Draws(3, 2, 12)]
    assert all(set(masking().apply(row, other)[1]) != set(first[1]) for other in others)


def test_the_numbers_of_a_sample_stay_the_same_over_versions() -> None:
    assert Draws(1, 2, 3).order(6).tolist() == [2, 3, 0, 1, 4, 5]
    assert Draws(1, 2, 3).uniform(3).round(6).tolist() == [0.561472, 0.564872, 0.046623]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=80), st.integers(1, 4), st.integers(0, 1000))
def test_whole_words_are_hidden_whole(ids: list[int], ngrams: int, sample: int) -> None:
    starts = np.arange(VOCAB) % 3 == 0
    rule = masking(starts=starts, ngrams=ngrams)
    row = np.array(ids)
    _, places = rule.apply(row, Draws(0, 0, sample))
    words = np.cumsum(starts[row] | SPECIAL[row] | np.append(True, SPECIAL[row][:-1]))
    for word in set(words[places].tolist()):
        assert set(np.flatnonzero(words == word)) <= set(places.tolist())
    assert not SPECIAL[row[places]].any()
    assert len(places) <= max(1, math.ceil(0.15 * (~SPECIAL[row]).sum() + 1e-9))


def test_spans_have_lengths_in_proportion_to_one_over_n() -> None:
    rule = masking(ngrams=3, share=0.02)
    row = np.arange(5, 1005)
    lengths = {1: 0, 2: 0, 3: 0}
    for sample in range(600):
        _, places = rule.apply(row, Draws(0, 0, sample))
        runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        for run in runs:
            if len(run) <= 3:
                lengths[len(run)] += 1
    total = sum(lengths.values())
    shares = [lengths[n] / total for n in (1, 2, 3)]
    wanted = [6 / 11, 3 / 11, 2 / 11]  # 1, 1/2, 1/3 over their sum
    assert all(abs(a - b) < 0.05 for a, b in zip(shares, wanted, strict=True)), shares


def test_a_span_never_crosses_a_special_token() -> None:
    rule = masking(ngrams=3, share=0.5)
    row = np.tile([10, 11, 2], 30)  # every third token is special
    for sample in range(50):
        hidden, places = rule.apply(row, Draws(0, 0, sample))
        assert (hidden[row == 2] == 2).all() and not (row[places] == 2).any()


def test_a_row_of_special_tokens_alone_has_nothing_to_hide() -> None:
    hidden, places = masking().apply(np.array([2, 3]), Draws(0, 0, 0))
    assert hidden.tolist() == [2, 3] and len(places) == 0


def _byte_level() -> Tokenizer:
    core = Core(models.BPE(vocab={"Ġthe": 0, "cat": 1, "Ġ": 2, "s": 3, "Ċ": 4}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    return Tokenizer(core.to_str(), {})


def _metaspace() -> Tokenizer:
    core = Core(models.BPE(vocab={"▁the": 0, "cat": 1, "▁": 2, "s": 3}, merges=[]))
    core.decoder = decoders.Metaspace()
    return Tokenizer(core.to_str(), {})


def _wordpiece() -> Tokenizer:
    core = Core(models.WordPiece(vocab={"[UNK]": 0, "the": 1, "##s": 2, ".": 3, "##.": 4}, unk_token="[UNK]"))
    core.decoder = decoders.WordPiece()
    return Tokenizer(core.to_str(), {})


@pytest.mark.parametrize(
    ("make", "wanted"),
    [(_byte_level, [1, 0, 1, 0, 1]), (_metaspace, [1, 0, 1, 0]), (_wordpiece, [1, 1, 0, 1, 0])],
)
def test_words_start_where_the_tokenizer_marks_it(make: Any, wanted: list[int]) -> None:
    assert word_starts(make()).astype(int).tolist() == wanted


def test_a_tokenizer_that_marks_the_ends_of_words_is_refused() -> None:
    core = Core(models.BPE(vocab={"the</w>": 0, "c": 1}, merges=[], end_of_word_suffix="</w>"))
    core.decoder = decoders.BPEDecoder()
    with pytest.raises(ArrieroError, match="whole_word"):
        word_starts(Tokenizer(core.to_str(), json.loads("{}")))
