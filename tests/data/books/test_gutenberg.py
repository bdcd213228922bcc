"""Project Gutenberg's frames in the forms of thirty years; books that have none are left alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.books.clean import BookSettings, clean_book
from arriero.data.books.gutenberg import frame
from arriero.data.extract import ExtractSettings, make_extractor
from arriero.data.extract.books import BookExtractor
from arriero.data.records import Extraction, Limits, Record, Refused

BOOK = (
    "A TITLE\n\nCHAPTER I\n\nIt was a day like any other, and the gutenberg press stood still.\n\n"
    + ("They spoke of Project Gutenberg at dinner, and of its end.\n\n" * 40)
    + "THE END"
)
FIELDS = "Title: A Title\n\nAuthor: Some Body\n\nRelease Date: May, 1999 [EBook #1]\n\nLanguage: German\n\n"
TERMS = (
    "This eBook is for the use of anyone anywhere at no cost and with\nalmost no restrictions whatsoever.  You may copy"
    " it, give it away or\nre-use it under the terms of the Project Gutenberg License included\nwith this eBook or online"
    " at www.gutenberg.org\n\n\n"
)
HEADERS = {
    "ebook 2010": "The Project Gutenberg EBook of A Title, by Some Body\n\n" + TERMS + FIELDS
    + "*** START OF THIS PROJECT GUTENBERG EBOOK A TITLE ***\n\n\n\nProduced by A. Person and the Online Distributed\nProofreading Team at http://www.pgdp.net\n\n\n\n",
    "ebook 2022": "\ufeffThe Project Gutenberg eBook of A Title, by Some Body\n\n" + TERMS + FIELDS + "Produced by: A. Person\n\n*** START OF THE PROJECT GUTENBERG EBOOK A TITLE ***\n\n\n",
    "a title over two lines": "Project Gutenberg's A Title\n\n" + FIELDS + "***START OF THE PROJECT GUTENBERG EBOOK A TITLE\nAND MORE OF IT***\n\n\nE-text prepared by A. Person\n\n\n\n",
    "small print": "**The Project Gutenberg Etext of A Title, by Some Body**\n\nCopyright laws are changing all over the world.\n\n" + "*SMALL PRINT!\n" + "Some terms.\n\n" * 30 + "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n\n\n\nThis etext was prepared by A. Person, Town, State.\n\n\n\n",
    "small print 2002": "Project Gutenberg Etext of A Title\n\n*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*\n\n",
    "no stars": "The Project Gutenberg EBook of A Title\n\n" + TERMS + FIELDS + "START OF THIS PROJECT GUTENBERG EBOOK A TITLE\n\n",
    "no start line": "The Project Gutenberg EBook of A Title, by Some Body\n\n" + TERMS + FIELDS + "Character set encoding: ASCII\n\n\n",
    "no blank lines": re.sub("\n+", "\n", "Project Gutenberg's A Title\n" + TERMS + FIELDS) + "*** START OF THIS PROJECT GUTENBERG EBOOK A TITLE ***\nProduced by A. Person\n",
}  # fmt: skip
LICENSE = "\n\nUpdated editions will replace the previous one.\n\n*** START: FULL LICENSE ***\n\nSection 1.\n"
FOOTERS = {
    "two lines": "\n\n\n\nEnd of the Project Gutenberg EBook of A Title, by Some Body\n\n*** END OF THIS PROJECT GUTENBERG EBOOK A TITLE ***\n"
    + LICENSE,
    "no space": "\n\n***END OF THE PROJECT GUTENBERG EBOOK A TITLE***\n" + LICENSE,
    "no stars": "\n\nEND OF THIS PROJECT GUTENBERG EBOOK A TITLE\n" + LICENSE,
    "etext": "\n\n\nEnd of Project Gutenberg's Etext of A Title, by Some Body\n\n",
    "german": "\n\nEnde dieses Projekt Gutenberg Etextes A Title\n",
    "french": "\n\nFin de Project Gutenberg's A Title\n",
    "copyrighted": "\n\n*** END OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK A TITLE ***\n",
    "licence alone": "\n\n*** START: FULL LICENSE ***\n\nTHE FULL PROJECT GUTENBERG LICENSE\n",
    "none": "",
}


@pytest.mark.parametrize("footer", FOOTERS)
@pytest.mark.parametrize("header", HEADERS)
def test_frames(header: str, footer: str) -> None:
    text = HEADERS[header] + BOOK + FOOTERS[footer]
    found = frame(text)
    assert text[found.start : found.end] == BOOK and found.found


@pytest.mark.parametrize("footer", [name for name in FOOTERS if name != "none"])
def test_a_footer_alone(footer: str) -> None:
    text = BOOK + FOOTERS[footer]
    found = frame(text)
    assert text[found.start : found.end] == BOOK


@settings(deadline=None)
@given(st.text(alphabet="abc \n.*", max_size=300))
def test_other_texts_stay_whole(text: str) -> None:
    found = frame(text)
    assert (found.start, found.end, found.found) == (0, len(text), False)


@settings(deadline=None)
@given(st.sampled_from([*HEADERS.values(), ""]), st.sampled_from([*FOOTERS.values()]), st.text(max_size=60))
def test_any_text_between_ends(header: str, footer: str, body: str) -> None:
    text = header + body + footer
    found = frame(text)
    assert 0 <= found.start <= found.end <= len(text)


def extracted(content: bytes | str, book: BookSettings | None = None) -> Extraction | Refused:
    return BookExtractor(book=book).extract(Record("b", content, "text/x-book", 0, 1), Limits())


def test_what_the_header_says_is_kept() -> None:
    text = HEADERS["ebook 2010"] + BOOK + FOOTERS["two lines"]
    found = make_extractor(ExtractSettings()).extract(
        Record("b", text.encode(), "text/x-book", 0, 1), Limits()
    )
    assert isinstance(found, Extraction) and found.text == BOOK
    assert (found.lang, found.license) == ("de", "LicenseRef-public-domain")
    assert found.meta["title"] == "A Title" and found.meta["author"] == "Some Body"
    assert found.meta["footer_characters"] == len(FOOTERS["two lines"])
    rights = extracted(HEADERS["ebook 2010"] + BOOK + FOOTERS["copyrighted"])
    assert isinstance(rights, Extraction) and rights.license == "LicenseRef-Gutenberg-copyrighted"
    plain = extracted(BOOK)
    assert isinstance(plain, Extraction) and plain.license is None and plain.text == BOOK


def test_encodings_and_refusals() -> None:
    for content in ("Ä b\r\nc".encode(), "Ä b\nc".encode("cp1252"), "Ä b\rc".encode("utf-16")):
        found = extracted(content)
        assert isinstance(found, Extraction) and found.text == "Ä b\nc"
    for content, reason in ((b"a\0b", "extract.binary"), (HEADERS["ebook 2010"].encode(), "extract.empty")):
        found = extracted(content)
        assert isinstance(found, Refused) and found.reason == reason


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_nothing_raises(content: bytes) -> None:
    extracted(content)


CONTENTS = (
    "CONTENTS\n\nCHAPTER I. The Start . . . 1\nCHAPTER II. The Middle . . . 20\nIII. The End 99\n\n\n\n"
)


def test_pictures_pages_and_contents() -> None:
    text = "T\n\n" + CONTENTS + "CHAPTER I\n\nOne[Pg 12] two {13} [Illustration: a\nship] three [a note].\n"
    assert clean_book(text, BookSettings()) == (
        "T\n\n" + CONTENTS.replace("\n\n\n\n", "\n\n\n") + "CHAPTER I\n\nOne two  three [a note]."
    )
    without = clean_book(text, BookSettings(contents=True, page_marks=False, illustrations=False))
    assert without == "T\n\n\nCHAPTER I\n\nOne[Pg 12] two {13} [Illustration: a\nship] three [a note]."
    prose = "Contents\n\nThe contents of the box were these things that nobody wanted, and so it was left alone.\n"
    assert clean_book(prose, BookSettings(contents=True)) == prose.strip()
