"""Regions that MediaWiki does not read as mark-up: kept aside before the mark-up is read, or dropped."""

from __future__ import annotations

import re

_COMMENT = re.compile(r"(?:(?<=\n)[ \t]*)?<!--.*?(?:-->(?:[ \t]*\n(?=\n|[ \t]*$))?|\Z)", re.DOTALL)
_KEPT = ("nowiki", "math", "chem", "ce", "pre", "source", "syntaxhighlight")
_DROPPED = [
    "ref",
    "references",
    "gallery",
    "timeline",
    "imagemap",
    "graph",
    "mapframe",
    "maplink",
    "templatedata",
    "score",
    "hiero",
    "categorytree",
    "inputbox",
    "templatestyles",
    "indicator",
    "includeonly",
    "section",
    "phonos",
]
_OPENING = re.compile(rf"<({'|'.join([*_KEPT, *_DROPPED])})\b([^<>]*)>", re.IGNORECASE)
_CLOSING = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in [*_KEPT, *_DROPPED]}
_PLACE = re.compile("\x02(\\d+)\x03")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


class Regions:
    """The regions of one page; ``hide`` puts marks in their places, ``show`` puts their text there."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def hide(self, source: str) -> str:
        """The source without comments and dropped regions, with marks for the kept ones."""
        source = _CONTROL.sub("", source)
        if "<!--" in source:
            source = _COMMENT.sub("", source)
        if "<" not in source:
            return source
        parts: list[str] = []
        position = 0
        unclosed: set[str] = set()
        while found := _OPENING.search(source, position):
            name = found[1].lower()
            parts.append(source[position : found.start()])
            position = found.end()
            if found[2].endswith("/") or name in unclosed:
                continue
            end = _CLOSING[name].search(source, position)
            if end is None:
                unclosed.add(name)
                continue
            if name in _KEPT:
                parts.append(self._keep(name, source[position : end.start()]))
            position = end.end()
        parts.append(source[position:])
        return "".join(parts)

    def _keep(self, name: str, text: str) -> str:
        text = f"${text.strip()}$" if name in ("math", "chem", "ce") and text.strip() else text
        self._texts.append(text)
        mark = f"\x02{len(self._texts) - 1}\x03"
        return f"\n{mark}\n" if name in ("pre", "source", "syntaxhighlight") else mark

    def show(self, text: str) -> str:
        """Text with the regions' own text for their marks."""
        return _PLACE.sub(lambda found: self._texts[int(found[1])], text) if self._texts else text
