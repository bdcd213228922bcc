"""Telephone numbers, international and national, told from dates, versions, ranges and other numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from arriero.data.pii.scan import Found, digits, stands_alone, words_before

_CALLING_CODES = frozenset(
    [
        "1",
        "7",
        "20",
        "27",
        "30",
        "31",
        "32",
        "33",
        "34",
        "36",
        "39",
        "40",
        "41",
        "43",
        "44",
        "45",
        "46",
        "47",
        "48",
        "49",
        "51",
        "52",
        "53",
        "54",
        "55",
        "56",
        "57",
        "58",
        "60",
        "61",
        "62",
        "63",
        "64",
        "65",
        "66",
        "81",
        "82",
        "84",
        "86",
        "90",
        "91",
        "92",
        "93",
        "94",
        "95",
        "98",
        "211",
        "212",
        "213",
        "216",
        "218",
        "220",
        "221",
        "222",
        "223",
        "224",
        "225",
        "226",
        "227",
        "228",
        "229",
        "230",
        "231",
        "232",
        "233",
        "234",
        "235",
        "236",
        "237",
        "238",
        "239",
        "240",
        "241",
        "242",
        "243",
        "244",
        "245",
        "246",
        "248",
        "249",
        "250",
        "251",
        "252",
        "253",
        "254",
        "255",
        "256",
        "257",
        "258",
        "260",
        "261",
        "262",
        "263",
        "264",
        "265",
        "266",
        "267",
        "268",
        "269",
        "290",
        "291",
        "297",
        "298",
        "299",
        "350",
        "351",
        "352",
        "353",
        "354",
        "355",
        "356",
        "357",
        "358",
        "359",
        "370",
        "371",
        "372",
        "373",
        "374",
        "375",
        "376",
        "377",
        "378",
        "380",
        "381",
        "382",
        "383",
        "385",
        "386",
        "387",
        "389",
        "420",
        "421",
        "423",
        "500",
        "501",
        "502",
        "503",
        "504",
        "505",
        "506",
        "507",
        "508",
        "509",
        "590",
        "591",
        "592",
        "593",
        "594",
        "595",
        "596",
        "597",
        "598",
        "599",
        "670",
        "672",
        "673",
        "674",
        "675",
        "676",
        "677",
        "678",
        "679",
        "680",
        "681",
        "682",
        "683",
        "685",
        "686",
        "687",
        "688",
        "689",
        "690",
        "691",
        "692",
        "800",
        "850",
        "852",
        "853",
        "855",
        "856",
        "870",
        "880",
        "886",
        "960",
        "961",
        "962",
        "963",
        "964",
        "965",
        "966",
        "967",
        "968",
        "970",
        "971",
        "972",
        "973",
        "974",
        "975",
        "976",
        "977",
        "979",
        "992",
        "993",
        "994",
        "995",
        "996",
        "998",
    ]
)
"""ITU-T E.164."""
_S = r"[ .\-\xa0\u2011]"
_INTERNATIONAL = re.compile(r"\(?\+\(?[1-9][0-9]{0,3}\)?(?:[ .\-/()\xa0\u2011]{0,3}[0-9]){6,14}")
_EXTENSION = re.compile(r"(?:[ ,]{0,2}(?:x|ext\.?|extension) ?[0-9]{1,6})?")
_NANP = re.compile(
    rf"(?:(?:\+?1|001){_S})?(?:\([1-9][0-9]{{2}}\){_S}?|[1-9][0-9]{{2}}[.\-\u2011])[0-9]{{3}}[.\-\u2011 ][0-9]{{4}}"
)
_NATIONAL = re.compile(
    "|".join(
        (
            rf"0[1-9](?:{_S}[0-9]{{2}}){{4}}",  # France
            r"\(0[1-9][0-9]{0,4}\)[ \-]?[0-9]{2,8}(?:[ \-][0-9]{2,5}){0,3}",  # (030) 1234567, (020) 7946 0958
            r"0[1-9][0-9]{1,4}[/][ ]?[0-9]{3,9}(?:[ \-][0-9]{1,4}){0,2}",  # 030/1234567
            r"0[1-9][0-9]{0,3}-[0-9]{2,3}(?: [0-9]{2,3}){2,3}",  # Sweden
            r"0[1-9][0-9]{1,3}[ \-][0-9]{3,4}[ \-][0-9]{3,4}",  # United Kingdom, Japan, China, Australia
            r"0[1-9][0-9]{2,4} [0-9]{5,8}",  # Germany, United Kingdom
            r"0[1-9][\- ][0-9]{4}[\- ][0-9]{4}",  # Japan, Taiwan
            r"0[1-9][0-9]{1,2}[\- ][0-9]{7,8}",  # China, Netherlands
            r"00[1-9][0-9]{1,2}(?:[ \-][0-9]{2,5}){2,4}",  # 0049 30 1234567
            r"\([1-9][0-9]\) ?9?[0-9]{4}-[0-9]{4}|[1-9]{2} 9[0-9]{4}-[0-9]{4}",  # Brazil
            r"[78][ \-]?\([0-9]{3}\)[ \-]?[0-9]{3}[ \-][0-9]{2}[ \-]?[0-9]{2}",  # Russia
            r"8 [3-9][0-9]{2} [0-9]{3} [0-9]{2} [0-9]{2}",
            r"1[3-9][0-9]([ \-])[0-9]{4}\1[0-9]{4}",  # China, mobile
            r"07[0-9]{9}|0[67][0-9]{8}",  # United Kingdom, France: mobile
        )
    )
)
_SAID = re.compile(
    r"(?:\btel|\bcontact|\bkontakt|\breach|phone|fax|mobile|\bmob\b|\bcell|\bcall|\bdial|whatsapp|sms|hotline|t[eé]l[eé]phone|tel[eé]fono?|telefon[eo]?|"
    r"m[oó]vil|celular|handy|durchwahl|телефон|\bтел|моб|факс|电话|電話|手机|手機|联系|热线|☎|📞|☏|✆|📱)"
    r"(?:\s?(?:no|nr|number|num|us|at|on|me|is|ephone|e|fon|éphone|:|-|\.|#|号码|码|番号|aufnehmen|number is)){0,3}[\s:.\-–()#]{0,4}$"
)
_DENIED = re.compile(
    r"(?:\b(?:isbn|issn|doi|arxiv|version|v|rfc|order|invoice|serial|part|model|item|sku|code|no|nr|pp?|pages?|"
    r"id|ref|case|patent|section|art|chapter|vol|issue|ticket|bug|isrc|ean|upc|oclc|lccn|pmid)|nº|№|#|§)[\s.:#\-–]{0,3}(?:1[03][:\s]{0,2})?$"
)
_LOOSE = re.compile(r"[0-9(](?:[0-9]|[ .\-/()\xa0\u2011]{1,3}(?=[0-9])){5,20}")
_DATE = re.compile(r"^(?:[0-9]{4}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]{1,2}[-./][0-9]{1,2}[-./][0-9]{2,4})\b")
_CHINESE = re.compile("[\u4e00-\u9fff]")
_CHINESE_MOBILE = re.compile(r"1[3-9][0-9]{9}")


def phones(text: str, start: int, end: int) -> Iterator[Found]:
    """Numbers in a run of digits at ``start`` to ``end``; a sign or bracket before it belongs to it."""
    begin = start
    while begin > max(0, start - 2) and text[begin - 1] in "+(":
        begin -= 1
    before = words_before(text, begin)
    if text[begin:start].count("+"):
        found = _INTERNATIONAL.match(text, begin, end)
        last = _with_extension(text, found.end()) if found else 0
        if found and _is_international(found[0]) and _edges(text, found.start(), last):
            yield Found(found.start(), last, "phone")
            return
    if _SAID.search(before):
        loose = _LOOSE.match(text, begin, end)
        if loose and 7 <= len(digits(loose[0])) <= 15 and not _DATE.match(loose[0]):
            yield Found(begin, _with_extension(text, loose.end()), "phone")
            return
    if _DENIED.search(before):
        return
    yield from _national(text, begin, end)


def _national(text: str, begin: int, end: int) -> Iterator[Found]:
    for pattern in (_NANP, _NATIONAL):
        for found in pattern.finditer(text, begin, end):
            last = _with_extension(text, found.end())
            if not stands_alone(text, found.start(), last):
                continue
            if pattern is _NATIONAL and (not 8 <= len(digits(found[0])) <= 14 or _is_isbn(found[0])):
                continue
            if not _in_a_table(text, found.start(), found.end()):
                yield Found(found.start(), last, "phone")
    mobile = _CHINESE_MOBILE.fullmatch(text, begin, end)
    if mobile and _CHINESE.search(text, max(0, begin - 30), end + 30) and _edges(text, begin, end):
        yield Found(begin, end, "phone")


def _with_extension(text: str, end: int) -> int:
    found = _EXTENSION.match(text, end)
    return found.end() if found else end


def _is_isbn(text: str) -> bool:
    """Ten digits that could be a book's number."""
    return len(text) == 10 and text.isdigit() and sum(int(d) * (10 - n) for n, d in enumerate(text)) % 11 == 0


def _is_international(text: str) -> bool:
    number = digits(text)
    code = next((number[:size] for size in (3, 2, 1) if number[:size] in _CALLING_CODES), "")
    if not code or not 8 <= len(number) <= 15 or len(set(number)) < 3:
        return False
    if code == "1":
        return len(number) == 11
    return len(number) >= 9 or len(code) == 3


def _edges(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    wide = before > "\u2e7f"
    if before and (before.isalnum() or before in "_=^*/") and not wide:
        return False
    return not (after and after.isalnum() and after < "\u2e80")


def _in_a_table(text: str, start: int, end: int) -> bool:
    """Whether other numbers stand right beside it, as in a row of figures."""
    left, right = text[max(0, start - 2) : start], text[end : end + 2]
    return (left.strip(" ").isdigit() and left != "") or (right.strip(" ").isdigit() and right != "")
