from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.filters.base import Doc
from arriero.data.filters.hash_list import build_url_list, domains_of, keys_of_url, split_url
from arriero.data.filters.lists import Phrases, UrlListFilter, WordListFilter
from arriero.data.filters.settings import Toxicity, UrlList, WordList
from arriero.data.filters.toxicity import ToxicityFilter
from arriero.errors import ArrieroError

BLOCKED = """# a list
bad.example
0.0.0.0 ads.example
*.wild.example
https://www.mixed.example/One/page?x=1
münchen.example   # with a comment
"""
HITS = (
    "http://bad.example/", "https://www.bad.example/a", "http://a.b.bad.example:8080/x", "BAD.EXAMPLE",
    "http://user@bad.example./", "http://ads.example", "http://x.wild.example/", "http://wild.example",
    "http://mixed.example/One/page?x=1#part", "http://xn--mnchen-3ya.example/", "http://MÜNCHEN.example/",
)  # fmt: skip
PASSES = (
    "http://notbad.example/", "http://bad.example.org/", "http://example/", "http://mixed.example/one/page?x=1",
    "http://mixed.example/", "http://mixed.example/One/page", None, "", "http://[broken", "mailto:x", "///",
)  # fmt: skip


@pytest.mark.parametrize("form", ["txt", "gz", "npy"])
def test_pages_of_listed_domains_and_addresses_are_dropped(tmp_path: Path, form: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(BLOCKED)
    if form == "gz":
        path = tmp_path / "list.txt.gz"
        path.write_bytes(gzip.compress(BLOCKED.encode()))
    if form == "npy":
        assert build_url_list([path, path], tmp_path / "list.npy") == 5
        path = tmp_path / "list.npy"
    (tmp_path / "other.txt").write_text("other.example\n")
    each = UrlListFilter([UrlList(path=path), UrlList(path=tmp_path / "other.txt", name="other")])
    for url in HITS:
        verdict = each.judge({"url": url})
        assert verdict is not None, url
        assert verdict.reason == "url.blocked"
    for url in PASSES:
        assert each.judge({"url": url}) is None, url
    urls = [*HITS, *PASSES, "http://www.other.example/x"]
    assert each.judge_table(pa.table({"url": urls})).tolist() == [0] * len(HITS) + [-1] * len(PASSES) + [1]
    assert each.judge_table(pa.table({"id": ["a"]})).tolist() == [-1]


def test_the_hashed_list_is_sorted_and_the_same_for_any_order(tmp_path: Path) -> None:
    names = [f"d{i}.example" for i in range(500)]
    for name, lines in (("a", names), ("b", names[::-1] + names[:7])):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
        build_url_list([tmp_path / f"{name}.txt"], tmp_path / f"{name}.npy")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    hashes = np.load(tmp_path / "a.npy")
    assert hashes.size == 500
    assert (np.diff(hashes) > 0).all()


def test_wrong_lists_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    (tmp_path / "y.npy").write_bytes(b"\x80\x04no")
    (tmp_path / "z.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "none.txt").write_text("# nothing\n")
    for name, message in (("x.npy", "holds float64"), ("y.npy", "no list"), ("z.txt", "line 1: not UTF-8")):
        with pytest.raises(ArrieroError, match=message):
            UrlListFilter([UrlList(path=tmp_path / name)])
    for missing in ("a.npy", "a.txt"):
        with pytest.raises(ArrieroError, match="there is no file"):
            UrlListFilter([UrlList(path=tmp_path / missing)])
    with pytest.raises(ArrieroError, match="no domain or address"):
        build_url_list([tmp_path / "none.txt"], tmp_path / "out.npy")


@settings(deadline=None)
@given(st.text() | st.text(st.sampled_from("ab.:/?#@[]%ü-")))
def test_no_address_breaks_the_look_up(url: str) -> None:
    host, rest = split_url(url)
    assert "#" not in rest
    assert all(host.endswith(domain) for domain in domains_of(host))
    assert isinstance(keys_of_url(url), list)


# ---------------------------------------------------------------------------------------- words

ENTRY = st.text(st.sampled_from("abA@ -."), min_size=1, max_size=5).map(str.strip).filter(bool)


@settings(deadline=None)
@given(st.lists(ENTRY, min_size=1, max_size=6), st.text(st.sampled_from("abA@ -.\n_")))
def test_hits_are_those_of_c4s_pattern(entries: list[str], text: str) -> None:
    words = [re.escape(entry.lower()) for entry in entries if re.search(r"\w", entry)]
    signs = [entry for entry in entries if not re.search(r"\w", entry)]
    pattern = re.compile(r"(?:\W|^)({})(?:\W|$)".format("|".join(words))) if words else None
    expected = bool(pattern and pattern.search(text.lower())) or any(sign in text for sign in signs)
    assert bool(Phrases(entries).hits(text)[0]) == expected


def test_every_occurrence_counts_and_unspaced_languages_are_searched_anywhere() -> None:
    assert Phrases(["damn", "bloody hell"]).hits("Damn! Bloody hell, damned, DAMN; bloody-hell") == (3, 7)
    assert Phrases(["坏话"], unspaced=True).hits("这是坏话，坏话。")[0] == 2
    assert Phrases(["坏话"]).hits("这是坏话，坏话。")[0] == 1


def test_a_large_text_is_counted_in_pieces() -> None:
    line = "well darn it, what the heck happened here\n"
    for text, lines in ((line * 60_000, 60_000), (line.replace("\n", " ") * 60_000, 60_000)):
        assert Phrases(["darn", "what the heck"]).hits(text) == (2 * lines, 8 * lines)
    assert Phrases(["darn"]).hits("x" * 3_000_000)[0] == 0


def test_word_lists_drop_by_density_and_only_their_language(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("darn\nwhat the heck\n")
    each = WordListFilter(WordList(path=tmp_path / "bad.txt", name="mild", language="en"))
    english = {"lang": "en"}
    measured = each.measure(Doc("1", "Well, darn it all.", columns=english))
    assert measured == {"m_words_mild": 250.0}
    verdict = each.judge(measured)
    assert verdict is not None
    assert verdict.reason == "words.mild"
    assert each.measure(Doc("1", "darn", columns={"lang": "de"})) == {}
    assert each.judge({}) is None
    seldom = WordListFilter(WordList(path=tmp_path / "bad.txt", max_per_1000_words=250))
    assert seldom.judge({"m_words_bad_words": 250.0}) is None
    table = pa.table({"m_words_bad_words": pa.array([0.0, None, 250.0, 251.0], pa.float32())})
    assert seldom.judge_table(table).tolist() == [-1, -1, -1, 0]
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(ArrieroError, match="has no word"):
        WordListFilter(WordList(path=tmp_path / "none.txt"))


def test_toxicity_grows_with_the_density_of_its_words(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("darn\n")
    each = ToxicityFilter(Toxicity(words=tmp_path / "bad.txt", max_score=0.5))
    scores = [
        float(each.measure(Doc("1", "darn " * n + "fine " * (1000 - n)))["m_toxicity"])
        for n in (0, 1, 5, 10, 50)
    ]
    assert scores == sorted(scores)
    assert scores[0] == 0
    assert scores[1] == pytest.approx(0.1)
    assert [each.judge({"m_toxicity": score}) is None for score in scores] == [True, True, True, False, False]
    table = pa.table({"m_toxicity": pa.array(scores, pa.float32())})
    assert each.judge_table(table).tolist() == [-1, -1, -1, 0, 0]
    with pytest.raises(ValueError, match="needs a classifier, a file of words"):
        Toxicity()
