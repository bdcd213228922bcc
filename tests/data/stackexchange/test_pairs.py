"""Pairs of a dump, read back by what tuning and DPO read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from arriero.data.conversations import read_conversations, read_preferences
from arriero.data.stackexchange.pairs import (
    PairSettings,
    preferences,
    question_answers,
    write_preferences,
    write_question_answers,
)
from arriero.data.stackexchange.posts import Answer, Question
from arriero.errors import ArrieroError

DUMP = Path(__file__).parents[1] / "curation/stackexchange/coffee.stackexchange.com"
ANSWERS = tuple(
    Answer(number, score, f"<p>{score}</p>") for number, score in enumerate((12, 9, 8, 1, -2), 10)
)
QUESTION = Question(1, 1, "t", "<p>b</p>", ANSWERS)


def scores(**settings: object) -> list[tuple[int, int]]:
    found = preferences(QUESTION, PairSettings(**settings))  # type: ignore[arg-type]
    return [(pair["chosen_score"], pair["rejected_score"]) for pair in found]


def test_which_answers_make_pairs() -> None:
    assert scores() == [(12, -2)]
    assert scores(pairs="neighbours") == [(8, 1), (12, 9), (1, -2)]
    every = scores(pairs="all", max_pairs=99, min_gap=4)
    assert every == [(12, -2), (12, 1), (9, -2), (8, -2), (9, 1), (8, 1), (12, 8)]
    assert scores(pairs="all", max_pairs=2) == every[:2]
    assert scores(pairs="all", min_score=13) == [] and scores(min_gap=15) == []


def test_which_answers_are_given_as_good() -> None:
    def found(**settings: int) -> list[int]:
        return [pair["score"] for pair in question_answers(QUESTION, PairSettings(**settings))]

    assert found() == [12] and found(max_answers=9) == [12, 9, 8, 1]
    assert found(min_question_score=2) == [] and found(max_characters=1) == []


def test_files_are_read_by_what_trains_on_them(tmp_path: Path) -> None:
    pairs, asked = tmp_path / "p.jsonl.gz", tmp_path / "q.jsonl"
    counts = write_preferences(DUMP, pairs, PairSettings(min_gap=1))
    assert counts.questions == 16 and counts.pairs == len(read_preferences(pairs)) >= 10
    with gzip.open(pairs, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert all(
        row["chosen_score"] > row["rejected_score"] and row["license"] == "CC-BY-SA-3.0" for row in rows
    )
    assert write_question_answers(DUMP, asked).pairs == len(read_conversations(asked)) == 16
    assert read_conversations(asked)[0][1]["role"] == "assistant"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.jsonl.gz", "q.jsonl"]


def test_a_dump_without_questions_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text("<users></users>")
    with pytest.raises(ArrieroError, match="holds no question: the rows do not stand in <posts>"):
        write_preferences(tmp_path, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "out.jsonl.part").exists()
