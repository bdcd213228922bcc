from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.filters.base import Doc
from arriero.data.filters.language import LanguageFilter, slices_of
from arriero.data.filters.settings import Language
from arriero.errors import ArrieroError

pytest.importorskip("fasttext_pybind")
TEXTS = {
    "en": "The ship left the harbour in the morning, and nobody on the pier knew where it was going. ",
    "de": "Das Schiff verließ am Morgen den Hafen, und niemand auf der Mole wusste, wohin es fuhr. ",
    "fr": "Le navire quitta le port au matin, et personne sur la jetée ne savait où il allait. ",
    "es": "El barco salió del puerto por la mañana y nadie en el muelle sabía adónde iba. ",
    "zh": "船在早上离开了港口，码头上没有人知道它要去哪里。",
    "ru": "Корабль покинул гавань утром, и никто на пирсе не знал, куда он идёт. ",
}


@pytest.mark.parametrize("lang", TEXTS)
def test_languages_are_known(lang: str) -> None:
    each = LanguageFilter(Language(keep=[lang]))
    found = each.measure(Doc("1", TEXTS[lang] * 40))
    assert found["lang"] == lang
    assert each.judge(found) is None
    other = LanguageFilter(Language(keep=["sw"])).judge(found)
    assert other is not None
    assert other.reason == "language.other"


def test_an_uncertain_language_is_dropped_with_its_score() -> None:
    each = LanguageFilter(Language(keep=["en"], min_score=0.65))
    verdict = each.judge({"lang": "en", "lang_score": 0.6})
    assert verdict is not None
    assert (verdict.reason, verdict.value, verdict.threshold, verdict.near_miss) == (
        "language.score", 0.6, 0.65, True,
    )  # fmt: skip
    assert each.judge({"lang": "en", "lang_score": 0.65}) is None
    assert LanguageFilter(Language(keep=[])).judge({"lang": "xx", "lang_score": 0.9}) is None


@pytest.mark.parametrize("text", ["", " \n", "\x00\x01", "\ud800 half", "1 2 3", "a" * 100_000])
def test_any_text_has_a_language_and_a_score(text: str) -> None:
    found = LanguageFilter(Language()).measure(Doc("1", text))
    assert isinstance(found["lang"], str)
    assert 0 <= float(found["lang_score"]) <= 1
    if not text.strip():
        assert found == {"lang": "und", "lang_score": 0.0}


@settings(deadline=None)
@given(st.text(), st.integers(0, 5), st.integers(1, 20))
def test_slices_are_of_the_text_and_no_longer_than_asked(text: str, count: int, size: int) -> None:
    found = slices_of(text, count, size)
    assert "\n" not in found
    flat = text.replace("\n", " ")
    if not count or len(text) <= count * size:
        assert found == flat
    else:
        assert len(found) == count * size + count - 1
        assert found.startswith(flat[:size])
        assert count == 1 or found.endswith(flat[-size:])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["en", "de", "fr", None]), st.sampled_from([0.5, 0.65, 0.82, 0.9])))
)
def test_a_table_is_judged_as_its_rows_are(rows: list[tuple[str | None, float]]) -> None:
    each = LanguageFilter(Language(keep=["en", "de"]))
    each._least = {"de": 0.82}
    columns = [{"lang": lang, "lang_score": score} for lang, score in rows]
    table = pa.Table.from_pylist(
        columns, pa.schema([("lang", pa.dictionary(pa.int32(), pa.string())), ("lang_score", pa.float64())])
    )
    names = [each.reasons[i] if i >= 0 else None for i in each.judge_table(table)]
    assert names == [v.reason if (v := each.judge(row)) else None for row in columns]


def test_what_is_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.bin").write_bytes(b"no model")
    with pytest.raises(ArrieroError, match="is no fastText model"):
        LanguageFilter(Language(model=tmp_path / "x.bin")).measure(Doc("1", "text"))
    with pytest.raises(ArrieroError, match="there is no language model"):
        LanguageFilter(Language(model=tmp_path / "y.bin")).measure(Doc("1", "text"))
    monkeypatch.setitem(sys.modules, "fasttext_pybind", None)
    with pytest.raises(ArrieroError, match="arriero\\[data\\]"):
        LanguageFilter(Language(model=tmp_path / "x.bin")).measure(Doc("1", "text"))
