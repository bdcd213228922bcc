"""Wikitext to plain text: hand-worked cases, bounds, and mwparserfromhell as a second opinion."""

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.data.extract import ExtractSettings
from arriero.data.extract.wikitext import WikitextExtractor
from arriero.data.records import Extraction, Limits, Record, Refused
from arriero.data.wikitext.plain import plain_text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("[[Paris]], [[Berlin|the city]]s and [[:Category:Cities]]", "Paris, the citys and Category:Cities"),
        ("a [[Paris (Texas)|]] b [[#History]] c", "a Paris b History c"),
        ("x [[File:A.jpg|thumb|a [[link]] in '''it''' {{lang|fr|b}}]] y", "x y"),
        ("x [[Datei:A.jpg|mini|b]][[Fichier:B.png]][[Файл:C.png|d]][[文件:D.png]] y", "x y"),
        ("x [[Category:A]][[Kategorie:B|C]] y\n[[fr:Paris]]\n[[zh-min-nan:X]]", "x y"),
        ("'''bold''' ''it'' '''''both''''' l'''x'''", "bold it both lx"),
        ("a<ref>b {{c}}</ref> d<ref name=x /> e<ref name=\"y\">[[z]]</ref>.", "a d e."),
        ("a<!-- b --> c <!-- d\n\n e -->f <!-- unclosed", "a c f"),
        ("a {{cite|b|c={{d|e}}}} f", "a f"),
        ("a {{lang|fr|bon mot}} b {{lang-de|Wort}} {{nowrap|10 m}}", "a bon mot b Wort 10 m"),
        ("{{convert|10|km|mi}}; {{convert|5|to|7|kg|lb}}; {{convert|3|-|4|ft}}", "10 km; 5 to 7 kg; 3–4 ft"),
        ("{{circa|1900}} {{frac|1|2}} {{val|1.5|u=kg}} {{As of|2010|5}}", "c. 1900 1/2 1.5 kg As of May 2010"),
        ("born {{birth date|1879|3|14}} 1{{ndash}}2", "born 14 March 1879 1–2"),
        ("a\n{| class=x\n|-\n| b || c\n{|\n| d\n|}\n|}\ne", "a\n\ne"),
        ("a\n{| class=x\n| b\n", "a"),
        ("<math>x^2 < y|z</math> and <nowiki>[[not]] ''this''</nowiki>", "$x^2 < y|z$ and [[not]] ''this''"),
        ("a <b>b</b> <span style=\"x\">c</span> 10<sup>2</sup> H<sub>2</sub>O 1 < 2 > 0", "a b c 10² H₂O 1 < 2 > 0"),
        ("[https://a.b/c label text] [http://x.y] [//z w]", "label text w"),
        ("* one\n** two\n# three\n: four\n; five", "- one\n- two\n- three\nfour\nfive"),
        ("&nbsp;a&ndash;b &amp; &lt;c&gt;", "a–b & <c>"),
        ("__NOTOC__ a {{DEFAULTSORT:x}} ----", "a ----"),
        ("X ({{IPAc-en|x}}; {{lang|fr|y}}) is () a (, b) ( ) c", "X (y) is a (b) c"),
        ("-{zh-hans:电脑; zh-hant:電腦}- -{a}-", "电脑 a"),
        ("{{a|[[b]]|{{c}} unclosed [[d", "a|b| unclosed d"),
        ("[[a|b|c]] [[wikt:word|word]]", "c word"),
        ("{{lang|en|a{{!}}b}} {{unknown|x}}", "a|b"),
        ("<gallery>\nA.jpg|b\n</gallery>x<timeline>y</timeline>", "x"),
        ("<pre>\n  x = [[1]]\n</pre>", "x = [[1]]"),
    ],
)  # fmt: skip
def test_golden(source: str, expected: str) -> None:
    assert plain_text(source) == expected


def test_sections() -> None:
    source = """Lead.

== History ==
Text.

=== Early ===
{{main|x}}

=== Late ===
More.

== See also ==
* [[A]]

=== Below ===
Gone.

== Legacy ==
Kept.

== References ==
{{reflist}}
"""
    assert plain_text(source) == "Lead.\n\nHistory\n\nText.\n\nLate\n\nMore.\n\nLegacy\n\nKept."


@pytest.mark.parametrize(
    "title",
    [
        "Siehe auch",
        "Notes et références",
        "Enlaces externos",
        "См. также",
        "Przypisy",
        "Jegyzetek",
        "Note",
        "外部链接",
    ],
)
def test_sections_without_prose_in_other_languages(title: str) -> None:
    assert plain_text(f"a\n\n== {title} ==\nb\n\n== C ==\nd") == "a\n\nC\n\nd"


def test_literature_may_be_a_culture_s() -> None:
    assert plain_text("== Culture ==\n=== Literature ===\na") == "Culture\n\nLiterature\n\na"
    assert plain_text("== Kultur ==\n=== Literatur ===\na\n== Literatur ==\nb") == "Kultur\n\nLiteratur\n\na"


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


ARTICLE = """{{Infobox x | a = [[b]] | c = {{d|e}} }}
'''Quito''' ({{lang-es|Quito}}) is the [[capital city|capital]] of [[Ecuador]].<ref name="a">{{cite web|url=http://x|title=T}}</ref>
It lies at {{convert|2850|m|ft}} in the [[Andes]]; see [https://q.ec the site].

[[File:Quito.jpg|thumb|left|A view of [[Quito]] at ''night''.]]

== Geography ==
{| class="wikitable"
! Month !! Rain
|-
| May || 12
|}
The river ''[[Machángara River|Machángara]]'' flows <b>south</b>.<!-- check -->
* first item
* second [[item]]
"""


def test_mwparserfromhell_agrees() -> None:
    parser = pytest.importorskip("mwparserfromhell")
    ours = words(plain_text(ARTICLE))
    theirs = words(parser.parse(ARTICLE).strip_code(normalize=True, collapse=True))
    captions = {"thumb", "left", "A", "view", "at", "night"}
    assert theirs - captions - {"Month", "Rain", "May", "12"} <= ours
    assert ours - theirs <= {"2850", "m"}, "from templates that a sentence needs"


PIECES = st.sampled_from(
    [
        *(
            "[[",
            "]]",
            "{{",
            "}}",
            "{|",
            "|}",
            "|",
            "==",
            "=",
            "*",
            "<ref>",
            "</ref>",
            "<ref/>",
            "<!--",
            "-->",
            "<math>",
        ),
        *(
            "</math>",
            "<nowiki>",
            "</nowiki>",
            "-{",
            "}-",
            "]",
            "lang",
            "convert",
            "1",
            "File:",
            "x",
            "&amp;",
            "<sub>2",
        ),
        *("\n", " ", "'''", "[http://a "),
    ]
)


@given(st.lists(PIECES, max_size=60))
def test_no_source_is_too_odd(pieces: list[str]) -> None:
    text = plain_text("".join(pieces))
    assert "\x02" not in text and "\x04" not in text


@given(st.text(max_size=100))
def test_any_text(source: str) -> None:
    assert isinstance(plain_text(source), str)


@pytest.mark.parametrize(
    "piece",
    [
        "[[",
        "{{",
        "\n{|",
        "<ref>",
        "[//a ",
        "= ",
        "<!--",
        "(,",
        "'",
        "<b ",
        "-{",
        "<sub>1",
        ", ",
        "<math>",
        "]]}}|}",
        "{{[[{|",
        "_",
        "( ",
    ],
)
def test_time_is_bounded(piece: str) -> None:
    begin = time.process_time()
    plain_text(piece * 40_000)
    assert time.process_time() - begin < 3


def test_nesting_is_bounded() -> None:
    assert plain_text("{{lang|x|" * 5000 + "deep" + "}}" * 5000 + " end").endswith("end")


def test_extractor() -> None:
    made = WikitextExtractor(ExtractSettings())
    record = Record(
        "1", "'''A'''", "text/x-wiki", 0, 7, lang="en", license="CC-BY-SA-4.0", meta={"title": "A"}
    )
    found = made.extract(record, Limits())
    assert isinstance(found, Extraction)
    assert (found.text, found.lang, found.license, found.meta["title"]) == ("A", "en", "CC-BY-SA-4.0", "A")
    empty = made.extract(Record("1", b"{{x}}\xff"[:5], "text/x-wiki", 0, 5), Limits())
    assert isinstance(empty, Refused) and empty.reason == "extract.empty"
    large = made.extract(record, Limits(record_bytes=3))
    assert isinstance(large, Refused) and large.reason == "extract.too_large"
    assert isinstance(
        made.extract(Record("1", bytes(random.Random(1).randbytes(500)), "text/x-wiki", 0, 500), Limits()),
        (Extraction, Refused),
    )
