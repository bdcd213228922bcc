"""Posts' HTML as text."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.stackexchange.html_text import TooDeepError, TooManyTagsError, html_to_text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>One\ntwo</p>\n\n<p>three</p>", "One two\n\nthree"),
        ('<p>See <a href="http://x.org/a>b" rel="nofollow">this page</a>.</p>', "See this page."),
        ('<p>a<img src="x.png" alt="enter image description here">b<br>c</p>', "ab\nc"),
        ("<ul>\n<li>x</li>\n<li>y</li>\n</ul>", "* x\n* y"),
        (
            "<p>Do:</p>\n<ol>\n<li><p>x</p></li>\n<li><p>y</p></li>\n</ol>\n<p>End</p>",
            "Do:\n\n1. x\n2. y\n\nEnd",
        ),
        ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", "* a\n  * b\n* c"),
        ("<blockquote>\n<p>said</p>\n<p>more</p>\n</blockquote>\n<p>yes</p>", "> said\n>\n> more\n\nyes"),
        (
            "<p>Run:</p>\n<pre><code>if a &lt; b:\n    go()\n</code></pre>",
            "Run:\n\n```\nif a < b:\n    go()\n```",
        ),
        ("<p>Use <code>a*b</code> here</p>", "Use `a*b` here"),
        ("<h1>Head</h1><p>1 &lt; 2 &amp;&nbsp;3 < 4</p>", "Head\n\n1 < 2 &\xa03 < 4"),
        ("<script>alert(1)</script><p>x</p>", "x"),
        ("a <!-- <p>no</p> --> b", "a b"),
        ("", ""),
    ],
)
def test_forms(source: str, text: str) -> None:
    assert html_to_text(source) == text


def test_code_keeps_its_lines_and_blanks_in_every_style() -> None:
    source = "<p>x</p><pre><code>a\n\n  b `` c</code></pre><p>y</p>"
    assert html_to_text(source, "fenced") == "x\n\n```\na\n\n  b `` c\n```\n\ny"
    assert html_to_text(source, "indented") == "x\n\n    a\n\n      b `` c\n\ny"
    assert html_to_text(source, "plain") == "x\n\na\n\n  b `` c\n\ny"
    assert html_to_text("<pre>``` in it</pre>", "fenced") == "````\n``` in it\n````"


def test_code_in_a_list_is_indented_with_it() -> None:
    source = "<ol><li><p>do</p><pre><code>x\ny</code></pre></li><li>then</li></ol>"
    assert html_to_text(source) == "1. do\n\n   ```\n   x\n   y\n   ```\n2. then"


@settings(deadline=None)
@given(st.text(alphabet="<>/abpreliuo \"'=&;!-\n", max_size=400))
def test_any_text_ends_and_leaves_no_tag_of_the_known_ones(source: str) -> None:
    text = html_to_text(source)
    assert "<pre>" not in text and "</li>" not in text


@pytest.mark.parametrize(
    "piece", ["<", "<a ", '<a "', "<a b='", "<ul>", "<!--", "<pre>", "</ul>", "&", "<li>"]
)
def test_hostile_repetition_costs_time_in_proportion(piece: str) -> None:
    start = time.process_time()
    with contextlib.suppress(TooDeepError, TooManyTagsError):
        html_to_text(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 10


def test_bounds() -> None:
    with pytest.raises(TooDeepError):
        html_to_text("<ul>" * 600)
    with pytest.raises(TooManyTagsError):
        html_to_text("<b>" * 11, most_tags=10)
