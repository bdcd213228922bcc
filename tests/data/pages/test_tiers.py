"""Tiers put together."""

from __future__ import annotations

from arriero.data.pages.tiers import union


def test_a_union_has_each_line_once_in_its_place() -> None:
    first, second = "One.\nTwo.\nFour.", "Zero!\nOne\nTwo\nThree.\nFour\nFive."
    assert union(first, second) == "Zero!\nOne.\nTwo.\nThree.\nFour.\nFive."
    assert union("", "a\nb") == "a\nb"
    assert union("a\nb", "") == "a\nb"
