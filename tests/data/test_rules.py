from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.data.facts import Facts
from arriero.data.normalise import normalise
from arriero.data.repetition import NGrams
from arriero.data.rules import Rules, judge

TEXT = st.text(st.sampled_from("ab \n.#…é")) | st.text()
WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "d"]), max_size=40)
OFF = Rules(**dict.fromkeys(Rules.model_fields))


@given(st.text() | st.text(st.sampled_from("a \t\r\n\x0b\x0c\x85\u2028\x00\ufeff\u00a0e\u0301")))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]|[ \t]\n", once)


def test_normalised_form() -> None:
    assert normalise("\ufeff  Caf\u0065\u0301 \t\r\nb\x00c\rd\x0ce\n\n") == "Caf\u00e9\nbc\nd\ne"
    assert len(normalise("a" + " " * 300_000 + "b")) == 300_002  # long runs are not looked at twice


@given(WORDS, st.integers(2, 4))
def test_top_ngram_is_what_counting_gives(words: list[str], n: int) -> None:
    text = " ".join(words)
    grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    top, count = Counter(grams).most_common(1)[0] if grams else ("", 0)
    expected = len(top) * count / len(text) if count > 1 else 0.0
    assert NGrams(words, len(text)).top_share(n) == pytest.approx(expected)


@given(WORDS, st.integers(5, 10))
def test_duplicate_ngrams_are_what_searching_gives(words: list[str], n: int) -> None:
    """The published reading (datatrove's find_all_duplicate), word for word."""
    seen, repeated, position = set(), 0, 0
    while position < len(words) - n + 1:
        gram = tuple(words[position : position + n])
        if gram in seen:
            repeated += sum(map(len, gram))
            position += n
        else:
            seen.add(gram)
            position += 1
    assert NGrams(words, max(len(" ".join(words)), 1)).duplicate_share(n) == pytest.approx(
        repeated / max(len(" ".join(words)), 1)
    )


@given(TEXT)
def test_every_fact_is_a_sane_figure_and_all_rules_can_be_off(text: str) -> None:
    facts = Facts(normalise(text))
    shares = [facts.alphabetic_share, facts.duplicate_lines, facts.duplicate_paragraphs]
    shares += [facts.duplicate_line_characters, facts.duplicate_paragraph_characters]
    shares += [facts.duplicate_ngrams(n) for n in range(5, 11)]
    assert all(0 <= share <= 1 for share in shares)
    assert judge(facts, OFF) is None


PROSE = (
    "The quick brown fox jumps over the lazy dog while seven wizards judge how vexing bold zebras quietly graze."
    " Nobody knew why the old lighthouse keeper had painted every third step in a different shade of green, but"
    " visitors kept asking about it, and he kept inventing new answers that made less sense than the ones before."
)


@pytest.mark.parametrize(
    ("rule", "value", "bad"),
    [
        ("min_characters", 10, "short"),
        ("max_characters", 10, "long enough to be too long"),
        ("min_words", 3, "two words"),
        ("max_words", 3, "here are four words"),
        ("min_mean_word_length", 3.0, "a b c d"),
        ("max_mean_word_length", 10.0, "pneumonoultramicroscopic x"),
        ("min_alphabetic_share", 0.8, "1 2 3 word"),
        ("max_symbol_ratio", 0.1, "#tag is #here and … so"),
        ("max_duplicate_lines", 0.3, "a b\na b\na b\nc"),
        ("max_duplicate_paragraphs", 0.3, "a b\n\na b\n\nc"),
        ("max_duplicate_line_characters", 0.2, "long line here\nlong line here\nx\ny\nz"),
        ("max_duplicate_paragraph_characters", 0.2, "long line here\n\nlong line here\n\nx\n\ny"),
        ("max_top_2gram", 0.2, "buy now " * 3 + "and see"),
        ("max_top_3gram", 0.18, "buy it now " * 3 + "and see"),
        ("max_top_4gram", 0.16, "do buy it now " * 3 + "and see"),
        *[(f"max_duplicate_{n}grams", limit, "a1 b2 c3 d4 e5 f6 g7 h8 i9 j0 " * 2) for n, limit in
          zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True)],
    ],
)  # fmt: skip
def test_each_rule_alone_drops_what_it_should_and_keeps_prose(rule: str, value: float, bad: str) -> None:
    alone = OFF.model_copy(update={rule: value})
    verdict = judge(Facts(bad), alone)
    assert verdict is not None
    assert (verdict.reason, verdict.threshold) == (rule, value)
    assert verdict.value < value if rule.startswith("min") else verdict.value > value
    assert judge(Facts(bad), OFF) is None
    if rule not in ("max_characters", "max_words"):
        assert judge(Facts(PROSE), alone) is None
    if "words" not in rule and "characters" not in rule:
        assert getattr(Rules(), rule) == value  # the published threshold is the default


def test_prose_keeps_all_rules() -> None:
    assert judge(Facts(PROSE), Rules()) is None
