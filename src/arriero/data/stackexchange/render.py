"""One text of a question and its answers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from arriero.data.stackexchange.html_text import CodeStyle, html_to_text
from arriero.data.stackexchange.posts import Answer, Question


class QuestionTemplate(BaseModel):
    """How a question and its answers become one text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = Field(default="Q: ", description="what is put before the question (RedPajama: 'Q: ')")
    answer: str = Field(default="A: ", description="what is put before each answer (RedPajama: 'A: ')")
    separator: str = Field(default="\n\n", description="what stands between question and answers")
    code: CodeStyle = Field(
        default="fenced", description="code blocks: fenced (```), indented (by four blanks) or plain"
    )
    min_score: int | None = Field(
        default=None, description="leave out answers below this score; null: keep all"
    )
    most_answers: int | None = Field(
        default=None, ge=0, description="keep at most this many answers, the best; null: all"
    )

    def chosen(self, question: Question) -> tuple[Answer, ...]:
        """The answers that the text has, best first."""
        kept = [one for one in question.answers if self.min_score is None or one.score >= self.min_score]
        return tuple(kept[: self.most_answers])


def question_text(question: Question, code: CodeStyle, most_tags: int, deepest: int) -> str:
    """Title, an empty line, body."""
    body = html_to_text(question.body, code, most_tags, deepest)
    return "\n\n".join(part for part in (" ".join(question.title.split()), body) if part)


def render(
    question: Question, template: QuestionTemplate, most_tags: int = 400_000, deepest: int = 512
) -> str:
    """The whole text; answers without a text are left out. Empty where the question has none.

    Raises:
        TooDeepError, TooManyTagsError: see :func:`html_to_text`.
    """
    asked = question_text(question, template.code, most_tags, deepest)
    if not asked:
        return ""
    answers = (html_to_text(one.body, template.code, most_tags, deepest) for one in template.chosen(question))
    parts = [template.question + asked, *(template.answer + answer for answer in answers if answer)]
    return template.separator.join(parts)
