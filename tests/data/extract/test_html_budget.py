"""The count of a page's nesting against a parser's tree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.extract.budget import nesting, over_budget, quick_depth
from arriero.data.records import Limits

NAMES = ["div", "span", "p", "ul", "li", "table", "tr", "td", "b", "section"]


def balanced() -> st.SearchStrategy[str]:
    inner = st.sampled_from(["", "x", "<br>", "<img src='a>b'>", "<!-- <div> -->", "<script>a<b</script>"])
    return st.recursive(inner, lambda more: st.builds(lambda name, parts: f"<{name}>{''.join(parts)}</{name}>", st.sampled_from(["div", "span", "b", "section"]), st.lists(more, max_size=3)))  # fmt: skip


def tree_depth(page: str) -> int:
    parse = pytest.importorskip("resiliparse.parse.html")
    deepest = 0
    body = parse.HTMLTree.parse(f"<body>{page}").body
    stack = [(body, 0)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        elements = (child for child in node.child_nodes if child.type == parse.NodeType.ELEMENT)
        stack += [(child, depth + 1) for child in elements if child.tag not in ("br", "img", "script")]
    return deepest


@settings(max_examples=150, deadline=None)
@given(balanced())
def test_nesting_of_well_formed_pages_is_the_parsers(page: str) -> None:
    assert nesting(page.encode(), 999) == tree_depth(page)


@settings(max_examples=150, deadline=None)
@given(balanced())
def test_the_quick_count_is_not_below_but_for_what_often_lacks_its_end(page: str) -> None:
    assert quick_depth(page.encode()) >= nesting(page.encode(), 999) - page.count("<script")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([f"<{name}>" for name in NAMES] + [f"</{name}>" for name in NAMES]), max_size=60)
)
def test_neither_count_fails_on_any_tags(tags: list[str]) -> None:
    page = "".join(tags).encode()
    assert 0 <= nesting(page, 999) <= len(tags)
    assert 0 <= quick_depth(page) <= len(tags)


@given(st.binary(max_size=300))
def test_any_bytes_are_counted(data: bytes) -> None:
    assert quick_depth(data) >= 0
    assert nesting(data, 99) >= 0


def test_limits_and_their_reasons() -> None:
    limits = Limits(html_nodes=100, html_depth=10)
    assert over_budget(b"<div>" * 10, limits) is None
    problem = over_budget(b"<div>" * 11, limits)
    assert problem is not None
    assert problem.reason == "extract.too_deep"
    problem = over_budget(b"<p>" * 101, limits)
    assert problem is not None
    assert problem.reason == "extract.too_many_nodes"


@pytest.mark.parametrize(
    "page",
    [
        "<span><div></span>", "<a><div>", "<b><div></b>", "<b id={n}><p>x", "<i id={n}>x<p></p>", "<x></y>",
        "<table><tr><td>", "<ul><li>", "<select><div>", "<font size={n}><div></div></font><b id={n}>",
    ],
)  # fmt: skip
def test_mislaid_end_tags_do_not_hide_depth(page: str) -> None:
    """What a parser nests 300 deep, by its tree or by opening formatting again, is not taken for flat."""
    whole = "".join(page.format(n=n) for n in range(300)).encode()
    problem = over_budget(whole, Limits(html_depth=100))
    assert problem is not None
    assert problem.reason == "extract.too_deep"


def test_careless_pages_are_flat() -> None:
    for page in (
        "<p><font color=red>word",
        "<li>word",
        "<tr><td><font size=2>word",
        "<p><b>x</p>",
        "<a href=x>y</a><p>",
    ):
        assert over_budget(page.encode() * 2000, Limits(html_depth=100)) is None


def test_a_page_built_to_make_the_walk_long_ends_soon() -> None:
    page = b"<p><button>" + b"<b>" * 500 + b"<div></div>" * 60_000
    assert nesting(page, 512) > 512
