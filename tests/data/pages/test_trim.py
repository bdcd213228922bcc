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
