"""Lines that are cut out of a text, each with its reason: the line rules of C4 and of RefinedWeb.

C4's are in the order and the reading of datatrove 0.10 (``c4_filters.py``), RefinedWeb's (Penedo et al. 2023, G.2) those
of DCLM's ``modifiers.py``. A line for which C4 would drop the whole page (``{``, lorem ipsum) stays, so that the page's
rule sees it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from arriero.data.filters.settings import LineRules
from arriero.data.records import Edit

_PRESETS: dict[str, dict[str, Any]] = {
    "c4": {
        "terminal_punctuation": True, "min_words": 3.0, "max_word_length": 1000.0, "javascript": True,
        "policy": True, "citations": True,
    },
    "fineweb": {
        "min_words": 3.0, "max_word_length": 1000.0, "javascript": True, "policy": True, "citations": True,
    },
    "refinedweb": {
        "max_upper_share": 0.5, "numbers": True, "counters": True, "min_words": 2.0, "boilerplate": True,
    },
}  # fmt: skip
_END_MARKS = (".", "?", "!", '"', "'")
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_POLICY = (
    "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
)  # fmt: skip
_PAGE = ("{", "lorem ipsum")
_COUNTER = re.compile(
    r"^\W*\d[\d,.]*[kmb]?\s+(?:likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads"
    r"|views|followers)\W*$",
    re.I,
)
_BOILERPLATE = re.compile(r"\s?items in cart|\s?Read more\.\.\.$|^Sign-in\s?", re.I)
_BOILERPLATE_WORDS = 10
_UPPER = re.compile("[A-Z]")

_Check = Callable[[str], bool]
_Line = tuple[int, int, str]


def line_settings(settings: LineRules) -> dict[str, Any]:
    """The rules that presets and fields come to: name -> threshold or True; those that are off are left out.

    Of two presets the stricter least number of words counts.
    """
    found: dict[str, Any] = {}
    for preset in settings.presets:
        for name, value in _PRESETS[preset].items():
            found[name] = max(value, found.get(name, value)) if name == "min_words" else value
    for name in type(settings).model_fields:
        given = getattr(settings, name)
        if name != "presets" and given != "preset":
            found[name] = given
    return {name: value for name, value in found.items() if value is not None and value is not False}


class LineEditor:
    """The line rules of some settings; edits' reasons are ``line.<rule>``."""

    def __init__(self, settings: LineRules) -> None:
        self._rules = line_settings(settings)

    def edits(self, text: str, columns: Mapping[str, Any]) -> list[Edit]:
        """Whole lines, with their line feeds, and marks inside lines; blank lines go with C4's, and with the line
        before them."""
        if not self._rules or not text:
            return []
        judge = self._judge_for(text)
        lines = list(_lines(text))
        reasons = [judge(line) for _, _, line in lines]
        _blanks_follow(lines, reasons, "min_words" in self._rules and self._rules["min_words"] >= 3)
        return _cuts(lines, reasons, len(text), self._marks(text))

    def _judge_for(self, text: str) -> Callable[[str], str]:
        """The check of one line: a rule's name, or "". What does not occur in the text is not looked for."""
        checks = _checks(self._rules, text)
        pages = [word for word in _PAGE if word in text.lower()]

        def judge(line: str) -> str:
            lowered = ""
            for name, check, after_page in checks:
                if after_page and pages:
                    lowered = lowered or line.lower()
                    if any(word in lowered for word in pages):
                        return ""
                if check(line):
                    return name
            return ""

        return judge

    def _marks(self, text: str) -> Callable[[_Line], Iterator[Edit]]:
        """What goes out of lines that stay."""
        citations = "citations" in self._rules and "[" in text
        boilerplate = "boilerplate" in self._rules

        def marks(line: _Line) -> Iterator[Edit]:
            start, _, text = line
            if citations and "[" in text:
                for match in _CITATION.finditer(text):
                    yield Edit(start + match.start(), start + match.end(), "", "line.citation")
            elif boilerplate and len(text) < 1000 and _is_short(text):
                for match in _BOILERPLATE.finditer(text):
                    yield Edit(start + match.start(), start + match.end(), "", "line.boilerplate")

        return marks


def _lines(text: str) -> Iterator[_Line]:
    start = 0
    for line in text.split("\n"):
        yield start, start + len(line), line
        start += len(line) + 1


def _is_short(line: str) -> bool:
    return len(line.split(None, _BOILERPLATE_WORDS)) <= _BOILERPLATE_WORDS


def _checks(rules: Mapping[str, Any], text: str) -> list[tuple[str, _Check, bool]]:
    """Name, test, and whether C4's page rules come before it; in C4's order, then RefinedWeb's."""
    lowered = text.lower()
    found: list[tuple[str, _Check, bool]] = []
    longest, least = rules.get("max_word_length"), rules.get("min_words")
    if longest is not None:
        found.append(("max_word_length", lambda line: _has_longer_word(line, longest), False))
    if "terminal_punctuation" in rules:
        cite = "citations" in rules
        found.append(("terminal_punctuation", lambda line: _has_open_end(line, cite), False))
    if least:
        few = int(least)
        found.append(("min_words", lambda line: bool(line) and len(line.split(None, few)) < least, False))
    if "javascript" in rules and "javascript" in lowered:
        found.append(("javascript", lambda line: "javascript" in line.lower(), True))
    phrases = [phrase for phrase in _POLICY if phrase in lowered] if "policy" in rules else []
    if phrases:
        found.append(("policy", lambda line: any(phrase in line.lower() for phrase in phrases), True))
    share = rules.get("max_upper_share")
    if share is not None:
        found.append(("max_upper_share", lambda line: _upper(line) > share * len(line), False))
    if "numbers" in rules:
        found.append(("numbers", str.isdigit, False))
    if "counters" in rules:
        found.append(("counters", lambda line: len(line) < 200 and bool(_COUNTER.match(line)), False))
    if "boilerplate" in rules:
        found.append(("boilerplate", _is_boilerplate, False))
    return found


def _has_longer_word(line: str, most: float) -> bool:
    return len(line) > most and any(len(word) > most for word in line.split())


def _has_open_end(line: str, cite: bool) -> bool:
    line = line.strip()
    if cite and "[" in line:
        line = _CITATION.sub("", line)
    return bool(line) and (not line.endswith(_END_MARKS) or line.endswith("..."))


def _upper(line: str) -> int:
    return len(_UPPER.findall(line)) if line.isascii() else sum(map(str.isupper, line))


def _is_boilerplate(line: str) -> bool:
    if not line or len(line) >= 1000 or not _is_short(line):
        return False
    rest = _BOILERPLATE.sub("", line)
    return not rest or rest.isspace()


def _blanks_follow(lines: list[_Line], reasons: list[str], all_go: bool) -> None:
    """A blank line takes the reason of the line before it; in C4 every blank line goes, as one of too few words."""
    for i, (_, _, line) in enumerate(lines):
        if not reasons[i] and (not line or line.isspace()):
            before = reasons[i - 1] if i else ""
            reasons[i] = before or ("min_words" if all_go else "")


def _cuts(
    lines: list[_Line], reasons: list[str], size: int, marks: Callable[[_Line], Iterator[Edit]]
) -> list[Edit]:
    """The edits for lines with their reasons; neighbours of one reason are one edit. When the last lines go, the line
    feed before them goes too."""
    edits: list[Edit] = []
    last_kept = max((i for i, reason in enumerate(reasons) if not reason), default=-1)
    for i, (line, reason) in enumerate(zip(lines, reasons, strict=True)):
        if not reason:
            edits += marks(line)
            continue
        start = lines[last_kept][1] if i == last_kept + 1 and i else line[0]
        end = min(line[1] + 1, size)
        named = f"line.{reason}"
        if edits and edits[-1].end == start and edits[-1].reason == named:
            start = edits.pop().start
        if end > start:
            edits.append(Edit(start, end, "", named))
    return edits
