from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.filters.base import merge_edits
from arriero.data.filters.line_rules import LineEditor, line_settings
from arriero.data.filters.settings import LineRules
from arriero.data.records import Edit, apply_edits

LINES = st.sampled_from(
    [
        "A line that ends well.", "Two words.", "No end mark here at all", "It goes on and on...", "", "  ",
        'She said "yes, of course."', "Enable JavaScript to see this page.", "We use cookies on this page.",
        "A claim that needs a source.[citation needed]", "A claim with a mark.[12] ", "x" * 1001 + " is too long.",
        "if (a) { return b; } and so on.", "Lorem ipsum dolor sit amet.", "JavaScript and lorem ipsum, both of them.",
        "Read our privacy policy { now }.", "  An indented line of text.", "[edit] [1]", "Ça va très bien, merci !",
        "12345", "3 likes", "1.2K views!", "SHOUTING AT YOU", "Read more...", "Sign-in", "Sign-in to go on",
        "3 items in cart", "items in cart and so on and so on and so on and so on", "one", "one two", "ÄÖÜ ß",
    ]
)  # fmt: skip
TEXTS = st.lists(LINES).map("\n".join)
POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")


def edited(text: str, presets: Sequence[str]) -> str:
    return apply_edits(text, LineEditor(LineRules(presets=presets)).edits(text, {}))


def filled(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def c4(text: str, end_marks: bool) -> list[str]:
    """C4's filter as it is published, written down anew: the lines that stay, those that doom the page among them."""
    kept = []
    for line in text.split("\n"):
        line = line.strip()
        words = line.split()
        if any(len(word) > 1000 for word in words):
            continue
        line = CITATION.sub("", line)
        if end_marks and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
            continue
        if len(words) < 3:
            continue
        lowered = line.lower()
        if (
            "lorem ipsum" in lowered
            or "{" in line
            or ("javascript" not in lowered and not any(phrase in lowered for phrase in POLICY))
        ):
            kept.append(line)
    return [line.strip() for line in kept if line.strip()]


def refinedweb(text: str) -> list[str]:
    """RefinedWeb's line rules in DCLM's order, one after the other over the whole text."""
    lines = text.split("\n")
    lines = [x for x in lines if not x or sum(map(str.isupper, x)) / len(x) <= 0.5]
    lines = [x for x in lines if not x or sum(map(str.isdigit, x)) < len(x)]
    counter = (
        r"^\W*\d(?:,|\.|\d)*(?:K|k|M|m|B|b)?\s+(?:likes|shares|comments|retweets|reposts|quotes|bookmarks"
        r"|upvotes|downvotes|downloads|views|followers)\W*$"
    )
    lines = [x for x in lines if not re.search(counter, x.lower())]
    lines = [x for x in lines if len(x.split()) >= 2 or not x]
    for pattern in (r"\s?items in cart", r"\s?Read more...$", r"^Sign-in\s?"):
        lines = [re.sub(pattern, "", x, flags=re.I) if len(x.split()) <= 10 else x for x in lines]
    return [x.strip() for x in lines if x.strip()]


@settings(deadline=None)
@given(TEXTS)
def test_c4s_lines_are_those_of_the_published_filter(text: str) -> None:
    assert filled(edited(text, ["c4"])) == c4(text, end_marks=True)
    assert filled(edited(text, ["fineweb"])) == c4(text, end_marks=False)


@settings(deadline=None)
@given(TEXTS)
def test_refinedwebs_lines_are_those_of_dclm(text: str) -> None:
    assert filled(edited(text, ["refinedweb"])) == refinedweb(text)


@settings(deadline=None)
@given(
    TEXTS | st.text(st.sampled_from("aA1 .\n[{")),
    st.lists(st.sampled_from(["c4", "refinedweb"]), unique=True),
)
def test_edits_are_in_order_and_leave_no_line_end_behind(text: str, presets: list[str]) -> None:
    edits = LineEditor(LineRules(presets=presets)).edits(text, {})
    left = apply_edits(text, edits)
    assert all(edit.end > edit.start and edit.reason.startswith("line.") for edit in edits)
    if not presets:
        assert left == text
    full = all(line.strip() for line in text.split("\n"))  # an empty line that stays may be the last one left
    if edits and full:
        assert not left.endswith("\n")


def test_empty_lines_before_a_line_that_goes_stay() -> None:
    assert edited("\n\n1", ["refinedweb"]) == "\n"


def test_neighbours_with_one_reason_are_one_edit_and_each_edit_names_its_rule() -> None:
    text = "Keep this one line.\nno end\nnone here\nWe use cookies on this page.\nKeep this one too.[3]"
    edits = LineEditor(LineRules(presets=["c4"])).edits(text, {})
    assert [(text[e.start : e.end], e.reason) for e in edits] == [
        ("no end\nnone here\n", "line.terminal_punctuation"),
        ("We use cookies on this page.\n", "line.policy"),
        ("[3]", "line.citation"),
    ]
    assert apply_edits(text, edits) == "Keep this one line.\nKeep this one too."


def test_the_last_lines_take_the_line_feed_before_them_with_them() -> None:
    assert edited("Keep this one line.\n\nno end", ["c4"]) == "Keep this one line."
    assert edited("no end\n\nnone", ["c4"]) == ""
    assert (
        edited("One line here.\n\n12345\n\nAnother line", ["refinedweb"]) == "One line here.\n\nAnother line"
    )


@pytest.mark.parametrize(
    ("settings", "text", "left"),
    [
        ({}, "12345\n3 likes", "12345\n3 likes"),
        ({"min_words": 2}, "one\none two", "one two"),
        ({"numbers": True}, "123\nabc", "abc"),
        ({"presets": ["c4"], "min_words": None, "terminal_punctuation": False}, "one\ntwo", "one\ntwo"),
        ({"presets": ["refinedweb"], "max_upper_share": None}, "ALL CAPS\nx", "ALL CAPS"),
        ({"boilerplate": True}, "Hats\n2 items in cart", "Hats\n2"),
    ],
)
def test_single_rules(settings: dict[str, object], text: str, left: str) -> None:
    rules = LineRules(**settings)
    assert apply_edits(text, LineEditor(rules).edits(text, {})) == left


def test_of_two_presets_the_stricter_number_of_words_counts() -> None:
    assert line_settings(LineRules(presets=["c4", "refinedweb"]))["min_words"] == 3
    assert line_settings(LineRules(presets=["refinedweb", "c4"], min_words=5))["min_words"] == 5


SPANS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 9), st.sampled_from(["", "X"])).map(
        lambda t: Edit(t[0], t[0] + t[1], t[2], "r")
    ),
    max_size=6,
)


@settings(deadline=None)
@given(st.lists(SPANS, max_size=3))
def test_merged_edits_can_be_made_and_cover_what_each_editor_touched(found: list[list[Edit]]) -> None:
    merged = merge_edits(found)
    text = "".join(chr(0x100 + i) for i in range(40))
    left = apply_edits(text, merged)
    touched = {i for edits in found for e in edits for i in range(e.start, e.end)}
    assert not {text[i] for i in touched} & set(left)
    assert {c for i, c in enumerate(text) if i not in touched} <= set(left)
