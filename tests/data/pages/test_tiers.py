"""Tiers put together."""

from __future__ import annotations

import subprocess
import sys

import pytest

from arriero.data.pages.tiers import union


def test_a_union_has_each_line_once_in_its_place() -> None:
    first, second = "One.\nTwo.\nFour.", "Zero!\nOne\nTwo\nThree.\nFour\nFive."
    assert union(first, second) == "Zero!\nOne.\nTwo.\nThree.\nFour.\nFive."
    assert union("", "a\nb") == "a\nb"
    assert union("a\nb", "") == "a\nb"


_PAGE = """<html><head><title>A form</title></head><body><!-- a remark --><form id="aspnetForm"><article><h1>Heading</h1>
{paragraphs}<p>With <label for="x">a label</label>, <input id="x" value="1"> and <select><option>one</option></select>, and
<textarea>an area</textarea> &unknown; end.</p></article></form><?php echo 1 ?></body></html>""".replace(
    "{paragraphs}",
    "".join(
        f"<p>Paragraph {n} says enough about its matter to be taken as prose, and no less.</p>"
        for n in range(9)
    ),
)


def test_elements_of_one_class_give_the_same_text() -> None:
    pytest.importorskip("trafilatura")
    code = (
        "import sys, trafilatura; from arriero.data.pages import tiers; page = sys.stdin.read();"
        " before = tiers._trafilatura(page, False, False); tiers.load('trafilatura');"
        " after = tiers._trafilatura(page, False, False); assert 'Paragraph 3' in before and before == after"
    )
    subprocess.run([sys.executable, "-c", code], input=_PAGE, text=True, check=True)
