"""Order of answers, licences, round trips."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.stackexchange.posts import (
    Answer,
    Question,
    answer_of,
    license_of,
    license_of_all,
    ordered,
    question_of,
    tags_of,
)


def test_scores_are_numbers_not_strings() -> None:
    """RedPajama v1 sorts the strings: "9" before "10", and "-3" before "-10"."""
    scores = [10, 9, 100, -3, -10, 0]
    answers = [Answer(number, score, "") for number, score in enumerate(scores)]
    assert [one.score for one in ordered(answers)] == [100, 10, 9, 0, -3, -10]
    as_strings = sorted(map(str, scores), reverse=True)
    assert as_strings[0] == "9"


ANSWERS = st.lists(
    st.builds(Answer, st.integers(1, 50), st.integers(-3, 3), st.just(""), st.booleans()), max_size=5
)


@settings(deadline=None)
@given(ANSWERS)
def test_ties_go_to_the_accepted_then_to_the_older_answer(answers: list[Answer]) -> None:
    found = ordered(answers)
    for first, second in itertools.pairwise(found):
        assert first.score >= second.score
        if first.score == second.score:
            assert first.accepted >= second.accepted
            assert first.accepted > second.accepted or first.id <= second.id


def test_the_accepted_answer_is_the_one_that_the_question_names() -> None:
    answers = [Answer(1, 5, "a"), Answer(2, 5, "b"), Answer(3, 7, "c")]
    question = question_of({"Id": "9", "AcceptedAnswerId": "2", "Score": "-4"}, answers)
    assert [(one.id, one.accepted) for one in question.answers] == [(3, False), (2, True), (1, False)]
    assert question.score == -4


@pytest.mark.parametrize("score", ["", "1e3", "+5", "٣", "9" * 19, "1.5"])
def test_an_answer_without_a_whole_score_has_no_place(score: str) -> None:
    with pytest.raises(ValueError, match="should be numbers"):
        answer_of({"Id": "1", "Score": score})


TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)


@settings(deadline=None)
@given(st.builds(Question, st.integers(), st.integers(), TEXTS, TEXTS, ANSWERS.map(tuple)))
def test_json_and_back(question: Question) -> None:
    again = Question.from_json(question.to_json())
    assert again.to_json() == question.to_json() and again.answers == question.answers


@pytest.mark.parametrize(
    "text", ["", "[]", "1", '{"answers": [1]}', '{"answers": []}', "{" * 9, b"\xff", "[" * 100_000]
)
def test_what_is_no_question_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        Question.from_json(text)


def test_licences_by_name_by_date_and_together() -> None:
    assert license_of({"ContentLicense": "CC BY-SA 4.0"}) == "CC-BY-SA-4.0"
    assert license_of({"CreationDate": "2011-04-07T23:59:59.000"}) == "CC-BY-SA-2.5"
    assert license_of({"CreationDate": "2011-04-08T00:00:00.000"}) == "CC-BY-SA-3.0"
    assert license_of({"CreationDate": "2018-05-02T00:00:00.000"}) == "CC-BY-SA-4.0"
    assert license_of({}) == ""
    answers = (Answer(1, 1, "", license="CC-BY-SA-4.0"),)
    assert (
        license_of_all(Question(1, 1, "", "", answers, license="CC-BY-SA-3.0"))
        == "CC-BY-SA-3.0 AND CC-BY-SA-4.0"
    )
    assert license_of_all(Question(1, 1, "", "", answers)) == ""


def test_both_forms_of_tags() -> None:
    assert tags_of("<a-b><c>") == tags_of("|a-b|c|") == ("a-b", "c")
