"""The facts: the compiled kernel, the fallback and a plain reading of the definitions agree."""

from __future__ import annotations

import re
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arriero.data import facts
from arriero.data.facts import FACTS, FactsSettings, fallback, measure, normalised_text, signature
from arriero.data.facts.figures import COUNTERS, figures
from arriero.data.facts.kernel import kernel, to_bytes
from arriero.errors import ArrieroError
from arriero.native import library

SETTINGS = [
    FactsSettings(),
    FactsSettings(words="space", shingle_words=3, bands=3, rows=5, stop_words=("a", "今", "é")),
    FactsSettings(shingle_words=1, bands=20, rows=13, stop_words=()),
]
FRAGMENTS = [
    "the ", "don't ", "can't", "e.g.", "http://a.b.com/x?y ", "(www.foo.org)", "Lorem Ipsum ", "JavaScript ", "cookie policy",
    "use of cookies", "uses cookies ", "Terms of Use", "privacy policy", "[12]", "[edit]", "[citation needed]", "[]",
    "10km", "5US$", "a.m.", "U.S.", "I'm ", "well-known ", "and/or", ":-)", "(c)", " 3.14,15 ", "\n\n", "- ", "• ",
    "x" * 1005 + " ", "word " * 6, "...", "<?xml version=", "\r\n", "ñandú ", "{", "a\n\nb\n\nb\n", "今天。", "ก็ไป",
    "\x1c", "\u2028", "\u00a0", "२१", "Σς", "İß", "…", "......", "''", "——", "a---b", "x@y.org", "°C.", "\ufeff", "\u00ad",
]  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=30).map("".join),
    st.text(st.sampled_from("aB1 .,'’-\n\r…$°s/:@+")),
    st.text(),
)
needs_kernel = pytest.mark.skipif(not library.available(), reason="there is no native library")


@needs_kernel
@settings(max_examples=250, deadline=None)
@given(TEXTS, st.sampled_from(SETTINGS))
@example("\n\n", SETTINGS[0])
@example("", SETTINGS[0])
@example("’Tis", SETTINGS[0])
def test_kernel_and_fallback_are_equal(text: str, chosen: FactsSettings) -> None:
    data = to_bytes(text)
    compiled = kernel(chosen)
    assert compiled is not None
    found, expected = compiled.measure(data), fallback.measure(data, chosen)
    assert dict(zip(COUNTERS, found[0], strict=True)) == dict(zip(COUNTERS, expected[0], strict=True))
    np.testing.assert_array_equal(found[1], expected[1])
    assert compiled.normalise(data) == fallback.normalise(data) and found[2] == expected[2]
    np.testing.assert_array_equal(compiled.shingles(data), fallback.shingles(data, chosen))
    np.testing.assert_array_equal(compiled.signature(data), expected[1])
    assert [tuple(pair) for pair in compiled.words(data).tolist()] == fallback.word_bounds(data, chosen)
    for paragraphs in (False, True):
        np.testing.assert_array_equal(compiled.lines(data, paragraphs), fallback.lines(data, paragraphs))


@pytest.fixture(params=["kernel", "fallback"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs with the compiled kernel and without it."""
    if request.param == "fallback":
        monkeypatch.setenv(library.SWITCH, "0")
    elif not library.available():
        pytest.skip("there is no native library")
    name: str = request.param
    return name


def brute_force(text: str, words: list[str]) -> dict[str, float]:
    """The filters' definitions as datatrove writes them, with the words given."""
    lines, filled = text.splitlines(), [line for line in text.split("\n") if line.strip()]
    pieces, paragraphs = re.split("\n+", text), re.split(r"\n{2,}", text.strip())
    n = len(text)

    def duplicates(parts: list[str]) -> tuple[int, int]:
        seen: set[str] = set()
        count = characters = 0
        for part in parts:
            count, characters = count + (part in seen), characters + len(part) * (part in seen)
            seen.add(part)
        return count, characters

    found = {
        "characters": n, "words": len(words), "lines": len(lines), "filled_lines": len(filled),
        "hash_ratio": text.count("#") / len(words),
        "ellipsis_ratio": (text.count("...") + text.count("…")) / len(words),
        "bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines),
        "ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines),
        "alphabetic_words": sum(any(map(str.isalpha, word)) for word in words) / len(words),
        "short_lines": sum(len(line) <= 30 for line in filled) / len(filled),
        "newlines_per_word": text.count("\n") / len(words),
        "unique_words": len(set(words)) / len(words),
        "duplicate_lines": duplicates(pieces)[0] / len(pieces),
        "duplicate_line_characters": duplicates(pieces)[1] / n,
        "duplicate_paragraphs": duplicates(paragraphs)[0] / len(paragraphs),
        "duplicate_paragraph_characters": duplicates(paragraphs)[1] / n,
        "repeated_line_characters": duplicates(filled)[1] / len(text.replace("\n", "")),
        "alphanumeric_share": sum(map(str.isalnum, text)) / n,
        "whitespace_share": sum(map(str.isspace, text)) / n,
        "stop_words_distinct": len({"the", "be", "to", "of", "and", "that", "have", "with"} & set(words)),
    }  # fmt: skip
    for size in (2, 3, 4):
        grams = [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]
        top, count = Counter(grams).most_common(1)[0] if grams else ("", 0)
        found[f"top_{size}gram"] = len(top) * count / n
    for size in range(5, 11):
        seen: set[tuple[str, ...]] = set()
        repeated = at = 0
        while at < len(words) - size + 1:
            gram = tuple(words[at : at + size])
            if gram in seen:
                repeated, at = repeated + sum(map(len, gram)), at + size
            else:
                seen.add(gram)
                at += 1
        found[f"duplicate_{size}grams"] = repeated / n
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["the", "a b c d e ", "to be", ".", "…", "...", "#", "\n", "\n\n", "- x", "• y", " ", "and",
                                 "don't", "the\nthe\n"]), min_size=1, max_size=80))  # fmt: skip
def test_facts_are_what_the_definitions_say(parts: list[str]) -> None:
    text = "x" + " ".join(parts)
    expected = brute_force(text, facts.words(text))
    found = measure(text).values
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_every_fact_is_there_in_order_and_sane(either: str) -> None:
    for text in ("", " ", "\n", "a", "Hello. " * 50, "今天天气很好。" * 20):
        values = measure(text).values
        assert tuple(values) == tuple(fact.name for fact in FACTS)
        for fact in FACTS:
            assert isinstance(values[fact.name], int if fact.dtype == "int64" else float), fact.name
            assert values[fact.name] >= 0
            if fact.unit == "share":
                assert values[fact.name] <= 1, (fact.name, text)


def test_a_known_text(either: str) -> None:
    values = measure("The cat sat.\nThe cat sat.\n\nBut the DOG (2) didn't…\n").values
    assert values["words"] == 17 and values["plain_words"] == 12 and values["tokens"] == 11
    assert (
        values["lines"] == 4
        and values["filled_lines"] == 3
        and values["paragraphs"] == 2
        and values["sentences"] == 3
    )
    assert values["duplicate_lines"] == 1 / 4 and values["upper_words"] == 1 / 11
    assert values["stop_words_distinct"] == 1 and values["stop_words_total"] == 1
    assert values["c4_lines"] == 2 and values["c4_open_lines"] == 3 and values["c4_sentences"] == 2
    space = measure("It's 5 o'clock, no?", FactsSettings(words="space")).values
    assert space["words"] == space["tokens"] == 4 and space["sentences"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don't I'm can't", "do n't I 'm ca n't"),
        ("(e.g., well-known)", "( e.g. , well - known )"),
        ("Mr. Smith's dog.", "Mr. Smith 's dog ."),
        ("U.S. is at http://a.org/b-c, ok?", "U.S. is at http://a.org/b-c , ok ?"),
        ("10km for 5US$ at 8am", "10 km for 5 US$ at 8 am"),
        ("wait... what—now", "wait ... what — now"),
        ("“quoted,” he said", "“ quoted , ” he said"),
        ("x=1, a/b 3-4 me@x.org", "x=1 , a / b 3 - 4 me@x.org"),
        ("中文 text 日本", "中 文 text 日 本"),
        ("ไทย", "ไ ท ย"),
    ],
)
def test_words_are_cut_as_spacy_cuts_them(either: str, text: str, expected: str) -> None:
    """Characters of scripts without spaces apart, of which spaCy's English rules make one word."""
    assert facts.words(text) == expected.split(" ")


def test_sentences_of_lines(either: str) -> None:
    for text, expected in [
        ("One. Two! Three?", 3), ("Mr. Smith went.", 1), ("No end", 1), ("He said: \"No.\" Then left.", 2),
        ("wait... what", 1), ("a.  ", 1), ("", 0), ("One.\nTwo.", 2), ("今天。明天。", 2),
    ]:  # fmt: skip
        assert measure(text).values["sentences"] == expected, text


def test_c4_decides_by_its_rules_in_their_order(either: str) -> None:
    def counted(text: str) -> dict[str, float | int]:
        return {
            name: value for name, value in measure(text).values.items() if name.startswith("c4") and value
        }

    assert counted("Too few.") == {}
    assert counted("This has { one brace.") == {"c4_curly_lines": 1, "c4_open_curly_lines": 1}
    assert counted("This { without an end") == {"c4_open_curly_lines": 1}
    assert counted("JavaScript { goes before.") == {}
    assert counted("We use cookies here.") == {}
    assert counted("A lorem ipsum line.") == {"c4_lorem_lines": 1, "c4_open_lorem_lines": 1}
    kept = {"c4_lines": 1, "c4_sentences": 1, "c4_open_lines": 1, "c4_open_sentences": 1}
    assert counted("It is cited here.[12]") == kept
    assert counted("It ends so...") == {"c4_open_lines": 1, "c4_open_sentences": 1}
    assert counted("a " + "x" * 1001 + " is long.") == {}


def test_normalised_text(either: str) -> None:
    assert (
        normalised_text("  Café, 3.14 & 1,000,000!\n\tÉCOLE — naïve… Ⅷ co\u00adop")
        == "cafe 0 0 0 ecole naive ⅷ coop"
    )
    assert normalised_text("ΣΊΣΥΦΟΣ σίσυφος 한국어 İ") == "σισυφοσ σισυφοσ 한국어 i"
    assert measure("A  b,c 12").digest == measure("a b\nC 7.5").digest != measure("a bc 1").digest


def test_shingles(either: str) -> None:
    five = facts.shingle_hashes("a b c d e")
    assert len(five) == 1 and len(facts.shingle_hashes("a b c d e f")) == 2
    np.testing.assert_array_equal(five, facts.shingle_hashes("A, b. C d E!"))
    assert len(facts.shingle_hashes("a b")) == 1 and len(facts.shingle_hashes(" . ")) == 0
    assert (signature(" . ") == 0xFFFFFFFF).all() and signature("a").shape == (112,)
    assert len(facts.shingle_hashes("a b c d e " * 100)) == 5


def test_the_estimate_is_as_good_as_theory_says(either: str) -> None:
    """RMSE of the similarity from signatures near sqrt(j (1 - j) / 112)."""
    rng = np.random.default_rng(5)
    errors, variances = [], []
    for _ in range(60 if either == "fallback" else 250):
        words = [f"w{i}" for i in rng.integers(0, 5000, 200)]
        other = [
            word if keep else f"x{i}"
            for i, (word, keep) in enumerate(zip(words, rng.random(200) > 0.04, strict=True))
        ]
        one, two = " ".join(words).replace("0", "o"), " ".join(other).replace("0", "o")
        one, two = (re.sub(r"\d", lambda digit: chr(97 + int(digit[0])), text) for text in (one, two))
        true = facts.jaccard(facts.shingle_hashes(one), facts.shingle_hashes(two))
        errors.append(float((signature(one) == signature(two)).mean()) - true)
        variances.append(true * (1 - true) / 112)
    theory = float(np.sqrt(np.mean(variances)))
    assert 0.75 * theory < float(np.sqrt(np.mean(np.square(errors)))) < 1.25 * theory
    assert abs(float(np.mean(errors))) < 4 * theory / np.sqrt(len(errors))


def test_band_keys() -> None:
    one, two = signature("a b c d e f g"), signature("a b c d e f h")
    keys = facts.band_keys(np.stack([one, one, two]), 14, 8)
    assert keys.shape == (3, 14) and (keys[0] == keys[1]).all()
    same = (one.reshape(14, 8) == two.reshape(14, 8)).all(axis=1)
    np.testing.assert_array_equal(keys[0] == keys[2], same)
    assert len(set(keys[0].tolist())) == 14
    assert facts.candidate_probability(0.8, 14, 8) == pytest.approx(0.924, abs=1e-3)


def test_bytes_and_strings_are_read_alike(either: str) -> None:
    text = "Grüße, 世界!\n"
    assert measure(text).values == measure(text.encode()).values
    assert measure(b"a\xff\xe2\x82 b").digest == measure("a\ufffd\ufffd b").digest
    assert measure("lone \ud800 surrogate").values["characters"] == 16


def test_settings_out_of_bounds_are_refused() -> None:
    with pytest.raises(ArrieroError, match="words should be peel or space, not 'x'"):
        FactsSettings(words="x")  # type: ignore[arg-type]
    with pytest.raises(ArrieroError, match="shingle_words should be from 1 to 64, not 0"):
        FactsSettings(shingle_words=0)
    with pytest.raises(ArrieroError, match="bands x rows should be from 1 to 4096, not 100 x 100"):
        FactsSettings(bands=100, rows=100)


def test_figures_divide_by_nothing() -> None:
    assert not any(figures([0] * len(COUNTERS)).values())


@needs_kernel
def test_a_large_text_takes_its_share_of_time() -> None:
    text = "The quick brown fox jumps over the lazy dog, and that's all. " * 20_000
    start = time.process_time()
    values = measure(text).values
    assert time.process_time() - start < 3
    assert values["words"] == 15 * 20_000 and values["duplicate_10grams"] > 0.8
