"""Whole licence texts found in a text."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.data.licenses.table import Sketch, sketches
from arriero.data.licenses.words import shingles, words

LEAST = 0.8
"""Share of a licence's word sequences that a text must hold; names and years differ from copy to copy."""
_RELATED = 0.5
"""Two licences that share this part of the shorter one's sequences are versions of one: only one of them is meant."""
MOST_CHARACTERS = 400_000
"""What lies behind is not looked at: no licence is longer."""

_NO_ENDORSEMENT = ("endorse or promote", "neither the name", "specific prior written permission")
_MARKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "AGPL-3.0": (("remote network interaction",), ()),
    "GPL-3.0": ((), ("remote network interaction",)),
    "BSD-2-Clause": ((), ("advertising materials", *_NO_ENDORSEMENT)),
    "BSD-3-Clause": (_NO_ENDORSEMENT, ("advertising materials",)),
    "BSD-4-Clause": (("advertising materials",), ()),
    "MIT": (("shall be included in all",), ()),
    "MIT-0": ((), ("shall be included in all",)),
    "0BSD": ((), ("appear in all copies",)),
    "ISC": (("appear in all copies",), ()),
}
"""Words of which one must be there, and words that must not, where two licences differ by one sentence."""


_RESTRICTIONS = {
    "commons clause": "LicenseRef-Commons-Clause",
    "good not evil": "JSON",
    "non commercial use only": "LicenseRef-NonCommercial",
    "noncommercial use only": "LicenseRef-NonCommercial",
    "non commercial purposes only": "LicenseRef-NonCommercial",
    "noncommercial purposes only": "LicenseRef-NonCommercial",
}
"""Sentences that people add to a free licence and that make it another one."""


@dataclass(frozen=True)
class Match:
    """A licence in a text; ``share`` of its word sequences were found."""

    id: str
    share: float


def match(text: str) -> list[Match]:
    """The licences whose whole texts stand in a text, by identifier; several where it holds several."""
    found = words(text[:MOST_CHARACTERS])
    present = shingles(found)
    joined = " ".join(found)
    candidates: list[tuple[Match, Sketch]] = []
    for one in sketches():
        share = len(one.hashes & present) / len(one.hashes)
        must, must_not = _MARKS.get(one.id, ((), ()))
        has_marks = not must or any(mark in joined for mark in must)
        is_marked = has_marks and not any(mark in joined for mark in must_not)
        if share >= LEAST and (is_marked or _is_list(one, present)):
            candidates.append((Match(one.id, share), one))
    matches = [candidate for candidate, sketch in candidates if not _is_part(candidate, sketch, candidates)]
    added = {id for phrase, id in _RESTRICTIONS.items() if phrase in joined}
    return matches + [Match(id, 1.0) for id in sorted(added)]


def _is_list(one: Sketch, present: set[int]) -> bool:
    """Whether a text is so much longer than the licence that marks of other licences may stand in it."""
    return len(present) > 4 * one.size


def _is_part(found: Match, sketch: Sketch, candidates: list[tuple[Match, Sketch]]) -> bool:
    """Whether another match covers this one: a version of the same text of which more was found."""
    for other, larger in candidates:
        if other.id == found.id:
            continue
        if _shared(sketch, larger) < _RELATED:
            continue
        mine, theirs = found.share * sketch.size, other.share * larger.size
        if theirs > mine or (theirs == mine and other.id < found.id):
            return True
    return False


def _shared(one: Sketch, other: Sketch) -> float:
    """Share of the shorter licence's sequences that the longer one has too, estimated where both sketches reach."""
    small, large = sorted((one, other), key=lambda sketch: sketch.size)
    limit = min(max(small.hashes), max(large.hashes)) if large.size > len(large.hashes) else max(small.hashes)
    part = {value for value in small.hashes if value <= limit}
    return len(part & large.hashes) / len(part) if part else 0.0
