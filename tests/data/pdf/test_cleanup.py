"""Texts of pages as one text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.pdf.cleanup import PdfSettings, join_hyphens, pages_text, unwrapped, without_running_lines


def body(number: int) -> list[str]:
    word = ("ape", "bee", "cat", "dog", "eel", "fox")[number]
    return [f"{word} on this page says a thing of its own.", f"and more of {word}", f"end of {word}"]


def test_the_same_line_on_most_pages_is_cut_at_its_edge_only() -> None:
    pages = [["My Thesis", *body(n), "My Thesis", "x y"] for n in range(5)]
    assert without_running_lines(pages, 0.5) == [[*body(n)] for n in range(5)]
    middle = [[f"{word} first", "Refrain", f"{word} last"] for word in ("ape", "bee", "cat", "dog")]
    assert without_running_lines(middle, 0.5) == middle


def test_heads_with_page_numbers_are_cut_though_chapters_change() -> None:
    heads = ["1 Start", "Chapter 1: Begin 2", "3 Start", "Chapter 2: End 4", "5 Finish"]
    pages = [[head, *body(n)] for n, head in enumerate(heads)]
    assert without_running_lines(pages, 0.9) == [body(n) for n in range(5)]
    different = [
        [f"{word} {number}", *body(n)]
        for n, (word, number) in enumerate((("a", 7), ("b", 3), ("c", 90), ("d", 11)))
    ]
    assert without_running_lines(different, 1.0) == different


def test_two_pages_prove_nothing() -> None:
    pages = [["Head", "a"], ["Head", "b"]]
    assert without_running_lines(pages, 0.5) == pages


def test_hyphens_at_line_ends() -> None:
    assert join_hyphens("infor-\nmation") == "information"
    assert join_hyphens("a well-known fact; well-\nknown") == "a well-known fact; well-known"
    assert join_hyphens("wellknown and well-known; well-\nknown") == "wellknown and well-known; wellknown"
    assert join_hyphens("co\u00ad\noperate") == "cooperate"
    assert join_hyphens("1990-\n1995 and A-\nB") == "1990-\n1995 and A-\nB"


def test_lines_of_a_paragraph_are_joined_and_others_are_not() -> None:
    text = (
        "This is the first line of a long paragraph that\nwas wrapped at some fifty characters, as books\nare. It ends here.\n"
        "Heading\n• one item\n• another item"
    )
    assert unwrapped(text) == (
        "This is the first line of a long paragraph that was wrapped at some fifty characters, as books are. It ends"
        " here.\nHeading\n• one item\n• another item"
    )
    assert unwrapped("") == unwrapped("\n\n") == ""


def test_a_paragraph_goes_on_over_the_page() -> None:
    settings = PdfSettings()
    assert pages_text(["It was a long and rainy", "day in the old town of ours."], settings) == (
        "It was a long and rainy day in the old town of ours."
    )
    assert pages_text(["It ended.", "Then more."], settings) == "It ended.\n\nThen more."


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab 1-\n.", max_size=60), max_size=8))
def test_no_letter_is_invented(pages: list[str]) -> None:
    text = pages_text(pages, PdfSettings())

    assert text.count("a") <= sum(page.count("a") for page in pages)
