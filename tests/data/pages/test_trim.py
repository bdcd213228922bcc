"""Lines of a page that are no part of its text."""

from __future__ import annotations

import pytest

from arriero.data.pages.trim import trim


def test_trimming_leaves_prose_alone() -> None:
    long = "Read more of her books than of anyone else's, he said, and " + "went on and on " * 10
    page = "<title>The title | Site</title>"
    text = f"The title\n{long}\nTop stories are told at night.\nBut the words of the title stand here."
    assert trim(text, page) == text.removeprefix("The title\n")
    body = "\n".join(f"This is sentence number {number} of the article." for number in range(9))
    assert trim(f"{body}\nRelated articles\nCats\nDogs", page) == body
    assert trim(f"Related articles\n{body}", page) == body
    assert trim("", "") == ""


@pytest.mark.parametrize(
    "line",
    [
        "Read more: something else", "RELATED: Ten walks", "Share this on Facebook", "https://a.example/story", "Advertisement",
        "© 2020 The Site", "Photo: A. Photographer", "Click here to get the app", "This website uses cookies.", "3 comments",
        "The minister (Image: GETTY)",
    ],
)  # fmt: skip
def test_short_lines_of_the_page_go(line: str) -> None:
    assert trim(f"First sentence of the text.\n{line}\nSecond sentence of the text.", "") == (
        "First sentence of the text.\nSecond sentence of the text."
    )


@pytest.mark.parametrize(
    "line",
    [
        "He read more than he wrote.",
        "Photographs of the bridge exist.",
        "Closed doors were opened.",
        "Menus were printed.",
    ],
)
def test_lines_that_only_look_like_it_stay(line: str) -> None:
    assert line in trim(f"First sentence.\n{line}\nSecond sentence.", "")


def test_a_hostile_title_takes_no_time() -> None:
    assert trim("text", "<h1>" * 100_000 + "<title" * 100_000) == "text"
    assert trim("text " * 3 + "(" * 100_000, "") != ""


@pytest.mark.parametrize(
    "line",
    [
        "Log in to the server and restart the service with the old settings.",
        "See also Section 9.26 for other ways to manipulate the schema search path.",
        "Also on Monday, the council voted to close the bridge for a year.",
        "Related work looks at the same question from the other side.",
        "Like it or not, the war was over by then, and he went home.",
        "loading all of these file types (other than shared libraries) from zipfiles",
        "recommended when you want to efficiently glue a large number of strings",
        "Loading the file took longer than anyone had thought.",
        "Published in 1990, the book was read all over the valley.",
        "    // https://example.org/",
        "# https://example.org/ndk/index.html",
        "[ 'http://crt.example.org/CA.crt' ],",
    ],
)
def test_sentences_and_code_that_begin_like_teasers_stay(line: str) -> None:
    """Found on documentation (Python, PostgreSQL, Node.js), whose pages the rules were not made on."""
    text = "\n".join(
        [f"The first paragraph, number {n}, is long enough." for n in range(9)] + [line, "And so on."]
    )
    assert line.strip() in trim(text, "<title>Else</title>")


@pytest.mark.parametrize("line", ["# comment", "comment", "    # comments"])
def test_a_remark_in_code_is_no_tail(line: str) -> None:
    text = "\n".join(
        [*(f"Line {n} of the program does a thing." for n in range(9)), line, "What follows stays."]
    )
    assert trim(text, "").endswith("What follows stays.")


@pytest.mark.parametrize(
    "line",
    [
        "See also: ten other mules", "Related: the salt road", "Related articles", "Recommended", "Log in",
        "Like this article", "Learn more", "Loading...", "Published on 4 May 2020", "https://example.org/a", "Sign up now",
        "Read more", "Trending stories", "• https://example.org",
    ],
)  # fmt: skip
def test_teasers_go(line: str) -> None:
    text = "\n".join(
        [f"The first paragraph, number {n}, is long enough." for n in range(9)] + [line, "And so on."]
    )
    assert line not in trim(text, "<title>Else</title>").split("\n")
