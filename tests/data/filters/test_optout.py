from __future__ import annotations

from pathlib import Path
from urllib.robotparser import RobotFileParser

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from arriero.data.filters.optout import OptOutFilter, SiteRules, read_robots
from arriero.data.filters.settings import OptOut

ROBOTS = """User-agent: *
Disallow: /

Host: www.first.example
User-agent: CCBot
User-agent: OtherBot
Disallow: /private/
Allow: /private/open
User-agent: *
Disallow: /

Host: second.example
User-agent: *   # everyone
Disallow: /*.pdf$
Disallow:

Host: third.example
User-agent: Nobody
Disallow: /
"""


@pytest.fixture
def settings(tmp_path: Path) -> OptOut:
    files = {
        "domains": "gone.example\n",
        "urls": "https://site.example/members/\nsite.example/a/b\n",
        "robots": ROBOTS,
        "ids": "<urn:uuid:1>\nrow 7\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return OptOut(**{name: tmp_path / name for name in files})


CASES = [
    ("http://www.gone.example/x", None, "optout.domains"),
    ("http://sub.gone.example", None, "optout.domains"),
    ("http://site.example/members", None, "optout.urls"),
    ("https://site.example/members/7?x=1", None, "optout.urls"),
    ("https://site.example/membership", None, None),
    ("https://site.example/a", None, None),
    ("https://site.example/a/b/c", None, "optout.urls"),
    ("https://other.example/members/", None, None),
    ("https://first.example/private/x", None, "optout.robots"),
    ("https://first.example/private/open/x", None, None),
    ("https://first.example/", None, None),
    ("https://second.example/a/b.pdf", None, "optout.robots"),
    ("https://second.example/a/b.pdf?x", None, None),
    ("https://third.example/", None, None),
    ("https://fine.example/", "<urn:uuid:1>", "optout.ids"),
    (None, "row 7", "optout.ids"),
    (None, "row 8", None),
    (None, None, None),
    ("http://[broken", "x", None),
]


def test_every_list_is_honoured_and_named(settings: OptOut) -> None:
    each = OptOutFilter(settings)
    for url, id, reason in CASES:
        verdict = each.judge({"url": url, "id": id})
        assert (verdict.reason if verdict else None) == reason, (url, id)
    table = pa.table({"url": [case[0] for case in CASES], "id": [case[1] for case in CASES]})
    found = [each.reasons[i] if i >= 0 else None for i in each.judge_table(table)]
    assert found == [case[2] for case in CASES]


def test_the_first_agent_that_a_site_names_counts(settings: OptOut) -> None:
    assert settings.robots is not None
    assert read_robots(settings.robots, ["OtherBot"]).keys() == {"first.example"}
    everyone = read_robots(settings.robots, ["Unheard", "*"])
    assert everyone["first.example"].forbids("/open")
    assert not read_robots(settings.robots, ["ccbot", "*"])["first.example"].forbids("/open")


PATH = st.text(st.sampled_from("ab/"), max_size=5).map("/".__add__)


@hypothesis_settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), PATH), max_size=4), PATH)
def test_a_single_rule_is_read_as_pythons_parser_reads_it(rules: list[tuple[bool, str]], path: str) -> None:
    """Python's parser takes the first match, ours the longest: with one rule, or all of one kind, they agree."""
    allowed = rules[0][0] if rules else True
    rules = [(allowed, rule) for _, rule in rules]
    ours, theirs = SiteRules(), RobotFileParser()
    for allow, rule in rules:
        ours.add(rule, allow)
    lines = [f"{'Allow' if allow else 'Disallow'}: {rule}" for allow, rule in rules]
    theirs.parse(["User-agent: *", *lines])
    if "//" in path or any("//" in rule for _, rule in rules):
        return  # urllib takes what follows for a host
    assert ours.forbids(path) == (not theirs.can_fetch("x", f"http://h.example{path}"))


@pytest.mark.parametrize(
    ("rule", "path", "matches"),
    [
        ("/a*b", "/axxb", True), ("/a*b", "/axxbc", True), ("/a*b$", "/axxbc", False), ("/a*b$", "/abb", True),
        ("/a$", "/a", True), ("/a$", "/ab", False), ("*", "/x", True), ("/*/c", "/a/b/c", True),
        ("/ab*ab$", "/ab", False), ("/ab*ab$", "/abab", True), ("*.pdf$", "/x.pdf", True),
    ],
)  # fmt: skip
def test_wildcards(rule: str, path: str, matches: bool) -> None:
    site = SiteRules()
    site.add(rule, False)
    assert site.forbids(path) == matches


def test_a_rule_of_many_stars_takes_no_time() -> None:
    site = SiteRules()
    site.add("/" + "a*" * 2000 + "b$", False)
    assert not site.forbids("/" + "a" * 100_000)
