"""The text of a Stack Exchange question with its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.data.records import Extraction, Limits, Record, Refused
from arriero.data.stackexchange.html_text import TooDeepError, TooManyTagsError
from arriero.data.stackexchange.posts import Question
from arriero.data.stackexchange.render import QuestionTemplate, render

if TYPE_CHECKING:
    from arriero.data.extract import ExtractSettings


class StackExchangeExtractor:
    """HTML to text, answers by score, in the template's form."""

    def __init__(
        self, settings: ExtractSettings | None = None, template: QuestionTemplate | None = None
    ) -> None:
        self.template = template or (settings.questions if settings else QuestionTemplate())

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        try:
            question = Question.from_json(record.content)
            text = render(question, self.template, limits.html_nodes, limits.html_depth)
        except TooDeepError as error:
            return _refuse(record, "extract.too_deep", str(error))
        except TooManyTagsError as error:
            return _refuse(record, "extract.too_many_nodes", str(error))
        except ValueError as error:
            return _refuse(record, "extract.malformed", str(error))
        if not text:
            return _refuse(record, "extract.empty", "the question has no text")
        return Extraction(text, f"stackexchange 1 code={self.template.code}")


def _refuse(record: Record, reason: str, detail: str) -> Refused:
    return Refused(record.id, reason, detail, record.offset, record.length, record.in_content, record.url)
