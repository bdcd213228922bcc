"""Questions with answers as one text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.extract import ExtractSettings, make_extractor
from arriero.data.extract.stackexchange import StackExchangeExtractor
from arriero.data.records import Extraction, Limits, Record, Refused
from arriero.data.stackexchange.posts import CONTENT_TYPE, Answer, Question
from arriero.data.stackexchange.render import QuestionTemplate

QUESTION = Question(
    1,
    3,
    "Which  one?",
    "<p>A or <b>B</b>?</p>",
    (Answer(3, 10, "<p>B.</p>"), Answer(2, 9, "<p>A.</p>"), Answer(4, -1, "")),
)


def record(content: str | bytes) -> Record:
    return Record("r", content, CONTENT_TYPE, 0, 1)


def text_of(template: QuestionTemplate | None = None) -> str:
    found = StackExchangeExtractor(template=template).extract(record(QUESTION.to_json()), Limits())
    assert isinstance(found, Extraction)
    return found.text


def test_the_form_of_redpajama_is_the_default() -> None:
    assert text_of() == "Q: Which one?\n\nA or B?\n\nA: B.\n\nA: A."


def test_the_template_is_a_setting() -> None:
    template = QuestionTemplate(question="Question: ", answer="Answer: ", separator="\n", most_answers=1)
    assert text_of(template) == "Question: Which one?\n\nA or B?\nAnswer: B."
    assert text_of(QuestionTemplate(min_score=10)).count("A: ") == 1
    by_settings = make_extractor(ExtractSettings(questions=template)).extract(
        record(QUESTION.to_json()), Limits()
    )
    assert isinstance(by_settings, Extraction) and by_settings.text == text_of(template)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", "extract.malformed"),
        (Question(1, 1, "", "").to_json(), "extract.empty"),
        (Question(1, 1, "t", "<ul>" * 600).to_json(), "extract.too_deep"),
        (Question(1, 1, "t", "<b>" * 99).to_json(), "extract.too_many_nodes"),
    ],
)
def test_refusals(content: str, reason: str) -> None:
    found = StackExchangeExtractor().extract(
        record(content), Limits(html_nodes=90 if "<b>" in content else 9999)
    )
    assert isinstance(found, Refused) and found.reason == reason


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_nothing_raises(content: bytes | str) -> None:
    assert isinstance(StackExchangeExtractor().extract(record(content), Limits()), Extraction | Refused)
