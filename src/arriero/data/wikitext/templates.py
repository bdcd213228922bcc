"""The few templates whose text is part of a sentence; every other template leaves nothing."""

from __future__ import annotations

import re
from collections.abc import Callable

_NAMED = re.compile(r"\s*([^\W\d][\w \-]{0,30}|\d{1,2})\s*=")
_BETWEEN = {
    "to": " to ",
    "-": "–",
    "–": "–",
    "and": " and ",
    "by": " by ",
    "x": " × ",
    "×": " × ",
    "or": " or ",
    "to about": " to about ",
}


class Arguments:
    """What is between a template's braces, after its name."""

    def __init__(self, parts: list[str]) -> None:
        self.plain: list[str] = []
        self.named: dict[str, str] = {}
        for part in parts:
            found = _NAMED.match(part) if "=" in part else None
            if found:
                self.named[found[1].strip().lower()] = part[found.end() :].strip()
            else:
                self.plain.append(part.strip())
        for number in range(1, 10):
            if str(number) in self.named and len(self.plain) == number - 1:
                self.plain.append(self.named[str(number)])

    def get(self, place: int) -> str:
        return self.plain[place] if -len(self.plain) <= place < len(self.plain) else ""


Template = Callable[[Arguments], str]


def _argument(place: int) -> Template:
    return lambda given: given.get(place)


def _constant(text: str) -> Template:
    return lambda given: text


def _convert(given: Arguments) -> str:
    """``{{convert|10|to|20|km|mi}}``: the numbers and the first unit, as the article gives them."""
    text, place = given.get(0), 1
    while given.get(place) in _BETWEEN and given.get(place + 1)[:1].isdigit():
        text += _BETWEEN[given.get(place)] + given.get(place + 1)
        place += 2
    unit = given.get(place)
    return f"{text} {unit}".strip()


def _value(given: Arguments) -> str:
    unit = given.named.get("u", given.named.get("ul", ""))
    return f"{given.get(0)} {unit}".strip()


def _fraction(given: Arguments) -> str:
    plain = given.plain
    if len(plain) == 3:
        return f"{plain[0]} {plain[1]}/{plain[2]}"
    return "/".join(plain) if len(plain) == 2 else f"1/{given.get(0)}"


def _nihongo(given: Arguments) -> str:
    rest = ", ".join(part for part in given.plain[1:3] if part)
    return f"{given.get(0)} ({rest})" if given.get(0) and rest else given.get(0) or rest


def _ship(given: Arguments) -> str:
    return " ".join(part for part in given.plain[:2] if part)


def _after(prefix: str) -> Template:
    return lambda given: f"{prefix}{given.get(0)}"


def _vessel(prefix: str) -> Template:
    return lambda given: f"{prefix} {given.get(0)}"


def _all(given: Arguments) -> str:
    return "".join(given.plain)


def _words(given: Arguments) -> str:
    return " ".join(given.plain)


_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def _as_of(given: Arguments) -> str:
    month = given.get(1)
    name = _MONTHS[int(month) - 1] if month.isdecimal() and 1 <= int(month) <= 12 else month
    return " ".join(part for part in ("As of", given.get(2), name, given.get(0)) if part)


def _date(given: Arguments) -> str:
    """``{{birth date|1879|3|14}}``."""
    year, month, day = given.get(0), given.get(1), given.get(2)
    if not (month.isdecimal() and 1 <= int(month) <= 12):
        return year
    return " ".join(part for part in (day, _MONTHS[int(month) - 1], year) if part)


_FIRST = (
    *[
        "nowrap",
        "nobr",
        "nowr",
        "nobreak",
        "small",
        "smaller",
        "big",
        "larger",
        "large",
        "abbr",
        "abbrlink",
        "tooltip",
        "mvar",
        "var",
        "strong",
        "em",
        "math",
        "ill",
        "lien",
    ],
    *[
        "formatnum",
        "number",
        "nombre",
        "nts",
        "mono",
        "code",
        "kbd",
        "samp",
        "tt",
        "smallcaps",
        "sc",
        "caps",
        "ipa",
        "api",
        "pron",
        "overline",
        "underline",
        "q",
    ],
    *[
        "strikethrough",
        "uc",
        "lc",
        "quote",
        "blockquote",
        "cquote",
        "quotation",
        "zitat",
        "cita",
        "citazione",
        "citat",
        "цитата",
        "linktext",
        "нп",
        "нп5",
    ],
    *[
        "iw",
        "noitalic",
        "dfn",
        "chem2",
        "bdi",
        "tl0",
        "crossreference",
        "langr",
        "script",
        "unicode",
        "midsize",
        "resize",
        "nihongo4",
        "keypress",
        "key",
    ],
    "interlanguage link",
    "lien interlangue",
    "not a typo",
    "as written",
    "citation bloc",
    "не переведено",
    "не переведено 5",
    "proper name",
    "visible anchor",
    "verse translation",
    "poem quote",
    "block quote",
)
_SECOND = ("lang", "langx", "langue", "foreign language", "color", "colour", "font color")

TEMPLATES: dict[str, Template] = {
    **dict.fromkeys(_FIRST, _argument(0)),
    **dict.fromkeys(_SECOND, _argument(1)),
    **dict.fromkeys(("transl", "translit", "xlit", "wikt-lang", "tlit"), _argument(-1)),
    **dict.fromkeys(
        ("convert", "cvt", "convertir", "conversion", "unité", "unit", "unidad", "convertinline"), _convert
    ),
    **dict.fromkeys(("val", "unitnum"), _value),
    **dict.fromkeys(("frac", "sfrac", "fraction", "vulgar fraction"), _fraction),
    **dict.fromkeys(("nihongo", "nihongo2", "nihongo3"), _nihongo),
    **dict.fromkeys(("ship", "navire", "bateau"), _ship),
    **dict.fromkeys(("circa", "c.", "ca", "around"), _after("c. ")),
    **{
        name: _vessel(name.upper())
        for name in ("uss", "hms", "ss", "rms", "ms", "mv", "usns", "hmas", "hmcs")
    },
    **dict.fromkeys(("chem", "su", "simplenuclide", "nuclide"), _all),
    **dict.fromkeys(("date", "date-", "jour", "date de naissance", "date de décès"), _words),
    **dict.fromkeys(("birth date", "death date", "start date", "end date", "film date", "dob"), _date),
    **dict.fromkeys(("birth date and age", "death date and age", "birth-date", "birth date and age2"), _date),
    **dict.fromkeys(("angbr", "angle bracket", "angbr ipa", "grapheme"), lambda given: f"⟨{given.get(0)}⟩"),
    "as of": _as_of,
    "floruit": _after("fl. "),
    "fl.": _after("fl. "),
    **dict.fromkeys(("ndash", "endash", "en dash", "–", "nbndash"), _constant("–")),
    **dict.fromkeys(("snd", "spnd", "spaced ndash", "spaced en dash", "spndash"), _constant(" – ")),
    **dict.fromkeys(("mdash", "emdash", "em dash", "—"), _constant("—")),
    **dict.fromkeys(
        ("nbsp", "sp", "space", "spaces", "thinsp", "thin space", "hair space", "nnbsp", "esp"),
        _constant(" "),
    ),
    **dict.fromkeys(("·", "•", "dot", "middot", "bullet", "bull", "bold middot"), _constant(" · ")),
    **dict.fromkeys(("'", "apostrophe", "'s"), _constant("'")),
    "=": _constant("="),
    "!": _constant("|"),
    "×": _constant("×"),
    "times": _constant("×"),
    "sub": _argument(0),
    "sup": _after("^"),
    "e": _after("×10^"),
    "10^": _after("10^"),
    "pi": _constant("π"),
    "sqrt": _after("√"),
    "ordinal": _argument(0),
    "sic": _constant("[sic]"),
}


def text_of(name: str, parts: list[str]) -> str:
    """What a template leaves in the sentence that it stands in."""
    name = name.strip().replace("_", " ").lower()
    made = TEMPLATES.get(name)
    if made is not None:
        return made(Arguments(parts))
    if name.startswith(("lang-", "ipa-", "api-")):
        return Arguments(parts).get(0)
    if name.startswith("formatnum:"):
        return name.removeprefix("formatnum:").strip()
    return ""
