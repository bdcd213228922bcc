"""Questions with answers as JSONL of instruction data and of preferences, in the layouts that ``read_conversations``
and ``read_preferences`` take: ``{"prompt", "response"}`` and ``{"prompt", "chosen", "rejected"}``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from arriero.data.jsonl import open_writer, write_record
from arriero.data.readers.stackexchange import StackExchangeReader
from arriero.data.records import Limits, Record
from arriero.data.stackexchange.html_text import CodeStyle, html_to_text
from arriero.data.stackexchange.posts import Answer, Question, license_of_all
from arriero.data.stackexchange.render import question_text
from arriero.errors import ArrieroError


class PairSettings(BaseModel):
    """Which answers make pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_question_score: int = Field(default=0, description="questions below this score are left out")
    min_score: int = Field(default=1, description="answers below this score are not given as good ones")
    min_gap: int = Field(
        default=2, ge=1, description="least difference in score between a chosen and a rejected answer"
    )
    pairs: Literal["extremes", "neighbours", "all"] = Field(
        default="extremes",
        description="preferences of a question: the best against the worst answer, each against the next lower one,"
        " or every two answers",
    )
    max_pairs: int = Field(default=10, ge=1, description="most preference pairs of one question")
    max_answers: int = Field(
        default=1, ge=1, description="most answers of one question in question-answer data"
    )
    max_characters: int = Field(
        default=20_000, ge=1, description="questions and answers longer than this are left out"
    )
    code: CodeStyle = Field(default="fenced", description="code blocks: fenced, indented or plain")


@dataclass(frozen=True)
class PairCounts:
    """What was written. ``questions`` - ``used`` questions gave no pair; ``refused`` rows could not be used at all
    (tag descriptions, for example)."""

    questions: int
    used: int
    pairs: int
    refused: int


def write_question_answers(
    dump: Path, out: Path, settings: PairSettings | None = None, limits: Limits | None = None
) -> PairCounts:
    """``{"prompt", "response", ...}`` for the best answers of every question of a dump, into JSONL (packed if
    ``out`` ends in .gz).

    Raises:
        ArrieroError: ``dump`` is a folder without Posts.xml, a 7z archive, or no question is in it.
    """
    return _write(dump, out, question_answers, settings or PairSettings(), limits or Limits())


def write_preferences(
    dump: Path, out: Path, settings: PairSettings | None = None, limits: Limits | None = None
) -> PairCounts:
    """``{"prompt", "chosen", "rejected", ...}``: of two answers to a question the one with the higher score is
    chosen, when the scores differ by the least gap. JSONL, packed if ``out`` ends in .gz.

    Raises:
        ArrieroError: ``dump`` is a folder without Posts.xml, a 7z archive, or no question is in it.
    """
    return _write(dump, out, preferences, settings or PairSettings(), limits or Limits())


def question_answers(question: Question, settings: PairSettings) -> Iterator[dict[str, Any]]:
    """The best answers of a question, best first."""
    prompt, answers = _texts(question, settings)
    good = [(one, text) for one, text in answers if one.score >= settings.min_score]
    for one, text in good[: settings.max_answers] if prompt else []:
        yield {
            "prompt": prompt,
            "response": text,
            "score": one.score,
            "accepted": one.accepted,
            "answer": one.id,
        }


def preferences(question: Question, settings: PairSettings) -> Iterator[dict[str, Any]]:
    """Pairs of answers whose scores are far enough apart; larger gaps first where the number is limited."""
    prompt, answers = _texts(question, settings)
    if not prompt or len(answers) < 2:
        return
    if settings.pairs == "extremes":
        candidates = [(answers[0], answers[-1])]
    elif settings.pairs == "neighbours":
        candidates = list(pairwise(answers))
    else:
        candidates = list(combinations(answers, 2))
    wide = [pair for pair in candidates if _is_wide(pair[0][0], pair[1][0], settings)]
    wide.sort(key=lambda pair: pair[1][0].score - pair[0][0].score)
    for (better, chosen), (worse, rejected) in wide[: settings.max_pairs]:
        yield {
            "prompt": prompt, "chosen": chosen, "rejected": rejected,
            "chosen_score": better.score, "rejected_score": worse.score,
            "chosen_answer": better.id, "rejected_answer": worse.id,
        }  # fmt: skip


def _is_wide(better: Answer, worse: Answer, settings: PairSettings) -> bool:
    return better.score >= settings.min_score and better.score - worse.score >= settings.min_gap


def _texts(question: Question, settings: PairSettings) -> tuple[str, list[tuple[Answer, str]]]:
    """The question's text (empty: leave it out) and the answers that have one, best first."""
    if question.score < settings.min_question_score:
        return "", []
    limits = Limits()
    nodes, depth = limits.html_nodes, limits.html_depth
    try:
        prompt = question_text(question, settings.code, nodes, depth)
    except ValueError:
        return "", []
    answers = []
    for one in question.answers:
        try:
            text = html_to_text(one.body, settings.code, nodes, depth)
        except ValueError:
            continue
        if text and len(text) <= settings.max_characters:
            answers.append((one, text))
    return (prompt, answers) if len(prompt) <= settings.max_characters else ("", [])


def _write(
    dump: Path,
    out: Path,
    pairs_of: Callable[[Question, PairSettings], Iterator[dict[str, Any]]],
    settings: PairSettings,
    limits: Limits,
) -> PairCounts:
    StackExchangeReader().splits(dump, 1)
    questions = used = pairs = refused = 0
    why = ""
    aside = out.with_name(out.name + ".part")
    with tempfile.TemporaryDirectory() as scratch, _writer(aside, out.suffix == ".gz") as file:
        reader = StackExchangeReader(scratch)
        for item in reader.read(dump, 0, None, limits):
            if not isinstance(item, Record):
                refused, why = refused + 1, why or f": {item.detail}"
                continue
            question = Question.from_json(item.content)
            found = list(pairs_of(question, settings))
            questions, used, pairs = questions + 1, used + bool(found), pairs + len(found)
            known = {"url": item.url, "license": license_of_all(question) or None}
            for pair in found:
                write_record(file, pair | {name: value for name, value in known.items() if value})
    if not questions:
        aside.unlink()
        raise ArrieroError(f"{dump} holds no question{why}")
    aside.replace(out)
    return PairCounts(questions, used, pairs, refused)


def _writer(path: Path, is_packed: bool) -> AbstractContextManager[IO[str]]:
    return open_writer(path) if is_packed else path.open("w", encoding="utf-8", newline="\n")
