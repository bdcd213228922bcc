"""Numbers of cards, accounts and persons: by shape and check digit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from arriero.data.pii import checksums
from arriero.data.pii.scan import Found, digits, stands_alone, words_before


class _Rule(NamedTuple):
    kind: str
    shape: re.Pattern[str]
    check: Callable[[str], bool]
    said: re.Pattern[str] | None = None
    """Words one of which must stand before it, where the shape alone says too little."""


def _compact(text: str) -> str:
    return re.sub(r"[ .\-/\xa0]", "", text).upper()


def _card(text: str) -> bool:
    number = digits(text)
    if not 13 <= len(number) <= 19 or len(set(number)) < 2:
        return False
    first = int(number[:4])
    issuer = (
        (number[0] == "4" and len(number) in (13, 16, 19))
        or ((51 <= first // 100 <= 55 or 2221 <= first <= 2720) and len(number) == 16)
        or (first // 100 in (34, 37) and len(number) == 15)
        or ((first == 6011 or first // 100 == 65 or 644 <= first // 10 <= 649) and len(number) == 16)
        or ((first // 100 in (36, 38, 39) or 300 <= first // 10 <= 305) and len(number) == 14)
        or (first in (1800, 2131) and len(number) == 15)
        or (3528 <= first <= 3589 and len(number) == 16)
        or (first // 100 == 62 and 16 <= len(number) <= 19)
    )  # fmt: skip
    return issuer and checksums.luhn(number)


def _ssn(text: str) -> bool:
    number = digits(text)
    return (
        number[:3] not in ("000", "666") and number[0] != "9" and number[3:5] != "00" and number[5:] != "0000"
    )


def _nino(text: str) -> bool:
    return _compact(text)[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def _dni(text: str) -> bool:
    compact = _compact(text)
    return checksums.dni(compact[:-1].translate(str.maketrans("XYZ", "012")), compact[-1])


def _aadhaar(text: str) -> bool:
    number = digits(text)
    years = all(1900 <= int(number[place : place + 4]) <= 2100 for place in (0, 4, 8))
    return not years and len(set(number)) > 2 and checksums.verhoeff(number)


def _of_digits(check: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: check(digits(text))


def _of_compact(check: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: check(_compact(text))


_C = re.compile
_RULES = (
    _Rule("national_id", _C(r"[1-9][0-9]{5}(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]"), _of_compact(checksums.chinese_id)),
    _Rule("card", _C(r"[2-6][0-9]{3}([ \-\xa0]?)[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}"), _card),
    _Rule("card", _C(r"(?:3[0-9]{3}|1800|2131)([ \-\xa0]?)[0-9]{6}\1[0-9]{4,5}"), _card),
    _Rule("national_id", _C(r"[0-9]{3}-[0-9]{2}-[0-9]{4}"), _ssn),
    _Rule("national_id", _C(r"[0-9]{3} ?[0-9]{2} ?[0-9]{4}"), _ssn, _C(r"(?:ssn|social security)[^0-9]{0,14}$")),
    _Rule("national_id", _C(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"), _of_digits(checksums.cpf)),
    _Rule("national_id", _C(r"[0-9]{11}"), _of_digits(checksums.cpf), _C(r"cpf[^0-9]{0,8}$")),
    _Rule("national_id", _C(r"[2-9][0-9]{3}([ \-])[0-9]{4}\1[0-9]{4}"), _aadhaar),
    _Rule("national_id", _C(r"[2-9][0-9]{11}"), _aadhaar, _C(r"(?:aadhaar|aadhar|uidai|आधार)[^0-9]{0,12}$")),
    _Rule("national_id", _C(r"[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[ABab]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"), _of_compact(checksums.french_nir)),
    _Rule("national_id", _C(r"[1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}"), _of_digits(checksums.german_tax_id)),
    _Rule("national_id", _C(r"[1-9][0-9]{10}"), _of_digits(checksums.german_tax_id), _C(r"(?:steuer|idnr|tin\b|tax)[^0-9]{0,18}$")),
    _Rule("national_id", _C(r"[0-9]{6}[\-][0-9]{4}"), _of_digits(checksums.personnummer)),
    _Rule("national_id", _C(r"[0-9]{11}"), _of_digits(checksums.pesel), _C(r"pesel[^0-9]{0,8}$")),
    _Rule("national_id", _C(r"[0-9]{9}"), _of_digits(checksums.bsn), _C(r"(?:bsn|burgerservicenummer)[^0-9]{0,8}$")),
    _Rule("national_id", _C(r"[0-9]{8}[ \-]?[A-HJ-NP-TV-Za-hj-np-tv-z]"), _dni),
)  # fmt: skip
_LETTERED = re.compile(
    r"[A-Z](?<!\w.)(?:(?P<iban>[A-Z][0-9]{2}(?:[ \xa0]?[A-Z0-9]{4}){2,7}(?:[ \xa0]?[A-Z0-9]{1,4})?)"
    r"|(?P<nino>(?:(?<=[A-CEGHJ-PR-TW-Z])[A-CEGHJ-NPR-TW-Z]|(?<=Q)Q) ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D])"
    r"|(?P<fiscal>[A-Z]{5}[0-9L-NP-V]{2}[A-EHLMPRST][0-9L-NP-V]{2}[A-Z][0-9L-NP-V]{3}[A-Z])"
    r"|(?P<nie>(?<=[XYZ])[ \-]?[0-9]{7}[ \-]?[A-Z]))\b"
)
"""The groups hold all but the first letter: a search for one character that then looks around itself is several times as
fast as one that begins with a boundary."""


_LETTERED_CHECKS = {"nino": _nino, "nie": _dni, "fiscal": checksums.codice_fiscale}


def numbers(text: str, start: int, end: int, kinds: frozenset[str]) -> Iterator[Found]:
    """Cards and identity numbers in a run of digits (and the letter after it)."""
    last = min(len(text), end + 2)
    before = ""
    for rule in _RULES:
        if rule.kind not in kinds:
            continue
        for found in rule.shape.finditer(text, start, last):
            if rule.said is not None:
                before = before or words_before(text, start)
                if not rule.said.search(before):
                    continue
            if not _alone(text, found.start(), found.end()) or not rule.check(found[0]):
                continue
            yield Found(found.start(), found.end(), rule.kind)


def lettered(text: str, kinds: frozenset[str]) -> Iterator[Found]:
    """Account numbers and identity numbers that begin with a letter."""
    for found in _LETTERED.finditer(text):
        if found["iban"] is not None:
            length = _iban_length(found[0])
            if length and "iban" in kinds:
                yield Found(found.start(), found.start() + length, "iban")
        elif "national_id" in kinds and _LETTERED_CHECKS[found.lastgroup or ""](found[0]):
            yield Found(found.start(), found.end(), "national_id")


def _iban_length(text: str) -> int:
    """Characters of the account number at the start of ``text``, 0 where there is none; a word may follow it."""
    wanted = int(checksums.IBAN_LENGTHS.get(text[:2], "0"))
    compact = 0
    for place, character in enumerate(text):
        compact += character not in " \xa0"
        if compact == wanted:
            return place + 1 if checksums.iban(_compact(text[: place + 1])) else 0
    return 0


def _alone(text: str, start: int, end: int) -> bool:
    """No part of a longer number: figures beside it, as in a table, make it one of many."""
    if not stands_alone(text, start, end):
        return False
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return not before.strip(" ").isdigit() and not after.strip(" ").isdigit()
