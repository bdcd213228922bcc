"""Questions with their answers, in the order in which they are read, and under their licence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from arriero.data.stackexchange.index import number_of

CONTENT_TYPE = "application/x-stackexchange-question"
"""A question with its answers as JSON, bodies as HTML: what the reader gives and the extractor takes."""

_BY_DATE = (("2018-05-02", "CC-BY-SA-4.0"), ("2011-04-08", "CC-BY-SA-3.0"), ("", "CC-BY-SA-2.5"))
"""stackoverflow.com/help/licensing: contributions from that day on."""


@dataclass(frozen=True)
class Answer:
    """One answer; ``body`` is HTML."""

    id: int
    score: int
    body: str
    accepted: bool = False
    date: str = ""
    license: str = ""


@dataclass(frozen=True)
class Question:
    """One question with its answers; ``body`` is HTML, ``title`` plain text."""

    id: int
    score: int
    title: str
    body: str
    answers: tuple[Answer, ...] = ()
    date: str = ""
    tags: tuple[str, ...] = ()
    license: str = ""
    problems: tuple[str, ...] = field(default=())
    """Answers that could not be read."""

    def to_json(self) -> str:
        answers = [vars(answer) for answer in self.answers]
        return json.dumps(vars(self) | {"answers": answers}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Question:
        """The question of :meth:`to_json`.

        Raises:
            ValueError: it is something else.
        """
        try:
            values = json.loads(text)
            answers = tuple(Answer(**answer) for answer in values.pop("answers"))
            tags, problems = tuple(values.pop("tags", ())), tuple(values.pop("problems", ()))
            question = cls(**values, tags=tags, problems=problems, answers=answers)
            question.title + question.body + "".join(answer.body for answer in answers)
            ordered(answers)
            return question
        except (TypeError, KeyError, AttributeError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError(f"not a question with answers: {error}") from None


def ordered(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """Highest score first, as numbers ("9" precedes "10" among strings, which is how RedPajama v1 sorts them); of
    equal scores the accepted answer, then the older one."""
    return tuple(sorted(answers, key=lambda one: (-one.score, not one.accepted, one.id)))


def question_of(
    values: Mapping[str, str], answers: Iterable[Answer], problems: Iterable[str] = ()
) -> Question:
    """The question of a row, its answers ordered and the accepted one marked.

    Raises:
        ValueError: the row's number is missing or is none.
    """
    number = number_of(values.get("Id"))
    if number is None:
        raise ValueError(f"a question's Id should be a number, not {values.get('Id')!r}")
    accepted = number_of(values.get("AcceptedAnswerId"))
    marked = [replace(one, accepted=True) if one.id == accepted else one for one in answers]
    return Question(
        number,
        number_of(values.get("Score")) or 0,
        values.get("Title", ""),
        values.get("Body", ""),
        ordered(marked),
        values.get("CreationDate", ""),
        tags_of(values.get("Tags", "")),
        license_of(values),
        tuple(problems),
    )


def answer_of(values: Mapping[str, str]) -> Answer:
    """The answer of a row.

    Raises:
        ValueError: its number or its score is missing or is none; without a score it has no place in the order.
    """
    number, score = number_of(values.get("Id")), number_of(values.get("Score"))
    if number is None or score is None:
        found = f"Id {values.get('Id')!r}, Score {values.get('Score')!r}"
        raise ValueError(f"an answer's Id and Score should be numbers, not {found}")
    body, date = values.get("Body", ""), values.get("CreationDate", "")
    return Answer(number, score, body, date=date, license=license_of(values))


def tags_of(value: str) -> tuple[str, ...]:
    """``<a><b>`` (dumps to 2023) or ``|a|b|`` (since) as ("a", "b")."""
    return tuple(tag for tag in value.replace("<", "|").replace(">", "|").split("|") if tag)


def license_of(values: Mapping[str, str]) -> str:
    """SPDX identifier: as the row says (dumps since 2020), else by the post's date; empty without a date."""
    named = values.get("ContentLicense", "").strip().upper().replace(" ", "-")
    if named:
        return named
    date = values.get("CreationDate", "")
    return next((name for day, name in _BY_DATE if date >= day), "") if date else ""


def license_of_all(question: Question) -> str:
    """The licences of a question and its answers, all of which must be kept: ``A AND B``; empty if unknown."""
    names = {question.license, *(answer.license for answer in question.answers)}
    return "" if "" in names else " AND ".join(sorted(names))


def meta_of(question: Question) -> dict[str, Any]:
    """What the ledger keeps of a question."""
    return {
        "score": question.score,
        "tags": list(question.tags),
        "answers": [answer.id for answer in question.answers],
        "answer_scores": [answer.score for answer in question.answers],
        **({"problems": list(question.problems)} if question.problems else {}),
    }
