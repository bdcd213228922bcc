"""Lines that main-content extractors let through and that are no part of a text: its headline repeated from the page's
title, share buttons, teasers for other pages, picture credits, copyright lines. Rules on single short lines, in the
manner of RefinedWeb's line corrections (Penedo et al. 2023, table 9), and one on headings that begin a page's tail.
"""

from __future__ import annotations

import html
import re
from itertools import islice

_WORD = re.compile(r"\w+")
_TAG = re.compile(r"<[^>]*>")
_TITLE = re.compile(r"<\w+\b[^>]*>(.*?)</(?:title|h1)\b", re.IGNORECASE | re.DOTALL)
_SEPARATOR = re.compile(r"\s[|\-–—:·»]+\s")
"""Between a text's title and the name of its site."""
_TITLE_LENGTH = 3000
_TITLES_WITHIN = 1 << 17
_MOST_HEADINGS = 8
_TITLE_TAG = re.compile(r"<[tT][iI][tT][lL][eE][\s>]")
_HEADING_TAG = re.compile(r"<[hH]1[\s>]")
"""Without the flag that ignores case, which would cost a search several times as long."""
_NEAR_THE_TOP = 6
_SHORT = 25
"""Words: a longer line is taken as prose, whatever it begins with."""

_TEASER = re.compile(
    r"""[\W_]*(?:
    (?:read|watch|listen|continue)\s(?:more|also|now|next|here|reading)\b
    |(?:don'?t|do\snot)\smiss\b | you\s(?:may|might)\salso\s(?:like|be\sinterested|enjoy)
    |click\shere\b | get\sthe\s[\w\s]{0,30}\sapp\b | download\sthe\s[\w\s]{0,30}\sapp\b
    |(?:share|tweet|e-?mail)\s(?:this|on|via|with|it)\b | share(?:\s\d+)?$
    |(?:follow|like|find|join)\sus\b | sign\sup\b | subscribe\b | skip\sto\b
    |advertisement\b | adverts?$ | sponsored\b | (?:photo|image|picture|video|credit|photograph|foto|fuente|source)s?\s?(?:by|credit|:)
    |(?:image|photo|slide)\s\d+\sof\b
    |(?:copyright|©|\(c\)\s?\d) | all\srights\sreserved\b | this\s(?:web)?site\suses\scookies | we\suse\s(?:[\w\s]{0,20}\s)?cookies
    |by\susing\sthis\s(?:web)?site\b | tags?\s?: | filed\sunder\b | posted\s(?:in|by|on)\b
    |(?:leave|post|write)\s(?:a\s)?(?:comment|reply)\b | \d*\s?comments?$ | loading\W*$ | close$ | caption$ | menu$
    |print\sarticle | order\sreprints
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_PERHAPS = re.compile(
    r"""[\W_]*(?:
    (?:see|find\sout|learn)\s(?:more|also|now|next|here|reading)\b | also\s(?:read|on|see|watch)\b
    |(?:related|recommended|trending|more\sfrom|more\sstories|more\son)(?:\s?(?:[:|–—-]|$|articles|stories|\w+$)|\s)
    |(?:print|like|pin|save|bookmark)\s(?:this|on|via|with|it)\b | (?:sign|log)\s?in\b | (?:click|tap|scroll)\s(?:to|for|on)\b
    |loading\b | (?:last\s)?(?:published|updated)\s?(?::|on|at|\d) | add\s(?:a\s)?(?:comment|reply)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
"""What begins teasers and sentences alike: a line that ends as a sentence does stays."""
_ENDS_SENTENCE = re.compile(r"[.!?,;:][\"'”’)\]]*$")
_SENTENCE = 6
_CODE = ("#", "/")
_FRAGMENT = 3
"""Words from which on a line that begins in lower case is a piece of a paragraph with hard line ends."""
_CLICK_HERE = re.compile(
    r"clicking\shere\W*$|\(\s?(?:image|photo|credit|picture)s?\s?:[^()]{0,80}\)\W*$", re.IGNORECASE
)
_ONLY_LINK = re.compile(r"[\s•*–—-]*(?:https?://|www\.)\S+\W*$", re.IGNORECASE)
_TAIL = re.compile(
    r"""[\W_]*(?:related(?:\s(?:articles?|stor(?:y|ies)|posts?|topics?|content|news|links?))?|top\sstories|latest\snews
    |most\s(?:read|popular)|recommended(?:\sfor\syou)?|you\s(?:may|might)\salso\slike|more\sfrom\s[\w\s.]{1,40}|read\snext|up\snext
    |partner\snews|editors?['’]?s?\spicks?|popular\sposts?|recent\s(?:posts?|articles?|comments?)|about\sthe\sauthor
    |post\snavigation|leave\sa\s(?:comment|reply)|(?:\d+\s)?comments?|share\sthis(?:\s\w+)?|trending(?:\snow)?)[\W_]*$""",
    re.IGNORECASE | re.VERBOSE,
)


def trim(text: str, page: str) -> str:
    """``text``, as extracted from the HTML ``page``, without the lines that belong to the page and not to the text."""
    titles = _titles(page)
    lines = text.split("\n")
    kept: list[str] = []
    words = 0
    total = sum(_count(line) for line in lines)
    for line in lines:
        count = _count(line)
        if count and words > total / 2 and _TAIL.match(line) and not _begins_lower(line):
            break
        if count and _belongs_to_page(line, count, titles if len(kept) < _NEAR_THE_TOP else ()):
            continue
        words += count
        if line.strip() or (kept and kept[-1].strip()):
            kept.append(line)
    return "\n".join(kept).strip()


def _belongs_to_page(line: str, count: int, titles: tuple[str, ...]) -> bool:
    if titles:
        key = _key(line)
        if any(key == title or (count > 3 and title.startswith(key)) for title in titles):
            return True
    if count > _SHORT or (count > _FRAGMENT and _begins_lower(line)):
        return False
    if _TEASER.match(line) or _CLICK_HERE.search(line) or _ONLY_LINK.match(line):
        return True
    sentence = count >= _SENTENCE and _ENDS_SENTENCE.search(line.rstrip())
    return bool(_PERHAPS.match(line) and not sentence)


def _begins_lower(line: str) -> bool:
    """Whether a line begins in the midst of a sentence, or is a remark in code."""
    begin = line.lstrip()[:2]
    return (begin[:1].islower() and not begin.startswith("e-")) or begin[:1] in _CODE


def _titles(page: str) -> tuple[str, ...]:
    """The page's title and first-rank headings, as letters and digits alone."""
    keys = []
    starts = [*islice(_TITLE_TAG.finditer(page, 0, _TITLES_WITHIN), 1)]
    starts += islice(_HEADING_TAG.finditer(page, 0, _TITLES_WITHIN), _MOST_HEADINGS)
    for start in starts:
        found = _TITLE.match(page, start.start(), start.start() + _TITLE_LENGTH)
        if found:
            title = html.unescape(_TAG.sub(" ", found[1]))
            keys += [_key(title), _key(max(_SEPARATOR.split(title), key=len))]
    return tuple(key for key in keys if key)


def _key(text: str) -> str:
    return "".join(_WORD.findall(text.lower()))


def _count(line: str) -> int:
    """Words; a script without spaces counts by characters, two to a word."""
    words = len(line.split())
    return max(words, len(line) // 12) if words else 0
