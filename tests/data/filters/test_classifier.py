from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.filters.base import Doc
from arriero.data.filters.classifier import ClassifierFilter, LinearModel
from arriero.data.filters.classifier_card import auc, wilson
from arriero.data.filters.classifier_train import TrainingSettings, texts_in, train_classifier
from arriero.data.filters.settings import Classifier
from arriero.data.filters.word_features import buckets_of, features_of, words_of
from arriero.errors import ArrieroError

GOOD = [
    "the",
    "history",
    "of",
    "the",
    "city",
    "was",
    "described",
    "by",
    "its",
    "mayor",
    "in",
    "several",
    "books",
    "about",
    "trade",
    "and",
    "rivers",
]
BAD = [
    "buy",
    "cheap",
    "now",
    "click",
    "here",
    "to",
    "win",
    "a",
    "free",
    "phone",
    "and",
    "your",
    "best",
    "price",
    "today",
    "we",
    "love",
    "you",
]


def texts(words: list[str], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    common = ["and", "the", "of", "a", "to"]
    return [" ".join(draw.choices(words + common * 3, k=draw.randrange(30, 90))) for _ in range(count)]


def test_two_kinds_of_texts_are_told_apart(tmp_path: Path) -> None:
    card = train_classifier(texts(GOOD, 300, 1), texts(BAD, 200, 2), tmp_path / "c.safetensors")
    assert card["auc"] > 0.98
    assert card["auc_interval"][0] > 0.9
    assert card["accuracy_interval"][0] <= card["accuracy"] <= card["accuracy_interval"][1]
    counts = card["texts"]
    assert counts["train"]["positive"] + counts["held_out"]["positive"] == 300
    assert 30 <= sum(counts["held_out"].values()) <= 75
    for kind, words in (("positive", GOOD), ("negative", BAD)):
        assert set(" ".join(item["feature"] for item in card["top"][kind][:8]).split()) & set(words)
    model = LinearModel.load(tmp_path / "c.safetensors")
    assert model.card == json.loads(json.dumps(card))
    assert model.probability(" ".join(GOOD)) > 0.5 > model.probability(" ".join(BAD))
    assert 0 <= model.probability("") <= 1


def test_training_is_the_same_to_the_byte_and_follows_its_seed(tmp_path: Path) -> None:
    kinds = texts(GOOD, 60, 1), texts(BAD, 60, 2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_classifier(*kinds, tmp_path / name, TrainingSettings(seed=seed, bits=10))
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_labels_at_random_cannot_be_learnt(tmp_path: Path) -> None:
    every = texts(GOOD, 900, 3)
    card = train_classifier(every[::2], every[1::2], tmp_path / "c.safetensors")
    assert card["auc_interval"][0] < 0.5 < card["auc_interval"][1]


def test_texts_of_both_kinds_and_twice_given_ones_do_not_count(tmp_path: Path) -> None:
    good, bad = texts(GOOD, 80, 1), texts(BAD, 80, 2)
    card = train_classifier(good + good + bad[:10], bad, tmp_path / "c.safetensors")
    total = {kind: sum(part[kind] for part in card["texts"].values()) for kind in ("positive", "negative")}
    assert total == {"positive": 80, "negative": 70}


@pytest.mark.parametrize(
    ("good", "bad", "message"), [(5, 60, "5 different texts are positive"), (60, 0, "0 diff")]
)
def test_too_few_texts_are_refused(tmp_path: Path, good: int, bad: int, message: str) -> None:
    with pytest.raises(ArrieroError, match=message):
        train_classifier(texts(GOOD, good, 1), texts(BAD, bad, 2), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_files_and_folders_of_texts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    (tmp_path / "in" / "b.txt").write_text("\n".join(["x" * 999] * 5))
    (tmp_path / "in" / "c.html").write_text("no")
    found = list(texts_in(tmp_path / "in"))
    assert found[:2] == ["one", "two"]
    assert list(map(len, found[2:])) == [1999, 1999, 999]
    (tmp_path / "bad.jsonl").write_text('{"body": "one"}\n')
    for path, message in (("bad.jsonl", "line 1: there is no field 'text'"), ("in/c.html", "should be .txt")):
        with pytest.raises(ArrieroError, match=message):
            list(texts_in(tmp_path / path))
    (tmp_path / "none").mkdir()
    with pytest.raises(ArrieroError, match="holds no"):
        list(texts_in(tmp_path / "none"))


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "a").write_bytes(b"\x80\x04K\x01.")
    save_file({"weights": np.zeros(8, np.float32)}, tmp_path / "b")
    about = {"format": "arriero.classifier/1", "bits": 4, "characters": 0, "bias": 0, "card": {}}
    save_file({"weights": np.zeros(8, np.float32)}, tmp_path / "c", {"arriero": json.dumps(about)})
    for name in "abc":
        with pytest.raises(ArrieroError, match="is no classifier"):
            LinearModel.load(tmp_path / name)
    with pytest.raises(ArrieroError, match="there is no classifier"):
        LinearModel.load(tmp_path / "d")


def test_the_filter_keeps_what_is_probable(tmp_path: Path) -> None:
    train_classifier(texts(GOOD, 60, 1), texts(BAD, 60, 2), tmp_path / "c.safetensors")
    each = ClassifierFilter(Classifier(path=tmp_path / "c.safetensors", name="cited"))
    found = each.measure(Doc("1", " ".join(BAD * 5)))
    verdict = each.judge(found)
    assert verdict is not None
    assert (verdict.reason, verdict.threshold) == ("quality.cited.min", 0.25)
    assert each.judge(each.measure(Doc("1", " ".join(GOOD * 5)))) is None
    table = pa.table({"m_quality_cited": pa.array([0.1, 0.25, None, 0.9], pa.float32())})
    assert each.judge_table(table).tolist() == [0, -1, -1, -1]
    both = Classifier(path=tmp_path / "c.safetensors", name="cited", min_score=None, max_score=0.5)
    assert ClassifierFilter(both).judge_table(table).tolist() == [-1, -1, -1, 1]


SCORES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=12)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_auc_is_the_share_of_pairs_in_order(high: list[float], low: list[float]) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in high for b in low]
    area, interval = auc(high, low)
    assert area == pytest.approx(sum(pairs) / len(pairs))
    assert interval[0] <= area <= interval[1]


def test_delongs_interval_covers_the_truth() -> None:
    """Two normal distributions one standard deviation apart: the area is Phi(1 / sqrt 2) = 0.7602."""
    draw = np.random.default_rng(5)
    intervals = [auc(draw.normal(1, 1, 80), draw.normal(0, 1, 60))[1] for _ in range(300)]
    covered = sum(low <= 0.76025 <= high for low, high in intervals) / 300
    assert 0.9 < covered < 0.99


def test_wilsons_interval() -> None:
    assert wilson(9, 10) == pytest.approx([0.5958, 0.9821], abs=1e-3)
    assert wilson(10, 10)[1] == 1.0


# ---------------------------------------------------------------------------------------- features


def is_word(c: str) -> bool:
    return (c.isascii() and c.isalnum()) or not c.isascii()


def words_by_character(text: str) -> list[str]:
    found, open_word = [], False
    for c in text:
        if 0x3000 <= ord(c) <= 0xDFFF:
            found.append(c)
            open_word = False
        elif is_word(c):
            if open_word:
                found[-1] += c
            else:
                found.append(c)
            open_word = True
        else:
            open_word = False
    return found


@settings(deadline=None)
@given(st.text(st.sampled_from("ab1 .-é中文ガ한😀ß")) | st.text().map(str.lower))
def test_words_and_their_hashes(text: str) -> None:
    data = text.encode("utf-8", "replace")
    words = [data[s:e].decode() for s, e in zip(*words_of(data), strict=True)]
    assert words == words_by_character(data.decode())
    singles, pairs = buckets_of(data, 30)
    assert singles.size == len(words)
    assert pairs.size == max(len(words) - 1, 0)
    by_word = dict(zip(words, singles.tolist(), strict=True))
    assert [by_word[word] for word in words] == singles.tolist()  # equal words, equal buckets
    assert len(set(by_word.values())) == len(by_word)  # and different ones here
    for i, word in enumerate(words):
        assert buckets_of(word.encode(), 30)[0].tolist() == [singles[i]]  # wherever they stand
    buckets, shares = features_of(data, 30)
    assert sorted(set(singles.tolist()) | set(pairs.tolist())) == buckets.tolist()
    assert shares.sum() == pytest.approx(1.0 if words else 0.0)
