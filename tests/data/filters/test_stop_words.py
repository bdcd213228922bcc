"""Stop words are those of the document's language where it is known; English stays Gopher's to the letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from arriero.artifacts import Manifest
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.rethreshold import Rethreshold, changed_settings, filter_settings
from arriero.data.facts import STOP_WORDS, FactsSettings, measure
from arriero.data.filters import Doc
from arriero.data.filters.rule_filter import RuleFilter
from arriero.data.filters.rules import Rules
from arriero.data.filters.stop_words import DISTINCT, TOTAL, stop_words
from arriero.errors import ArrieroError
from arriero.stage import get_stage

DECLARATION = {  # Universal Declaration of Human Rights, second sentence of the preamble and third (public document)
    "en": "Whereas recognition of the inherent dignity and of the equal and inalienable rights of all members of the human"
    " family is the foundation of freedom, justice and peace in the world,",
    "de": "Da die Anerkennung der angeborenen Würde und der gleichen und unveräußerlichen Rechte aller Mitglieder der"
    " Gemeinschaft der Menschen die Grundlage von Freiheit, Gerechtigkeit und Frieden in der Welt bildet,",
    "fr": "Considérant que la reconnaissance de la dignité inhérente à tous les membres de la famille humaine et de leurs"
    " droits égaux et inaliénables constitue le fondement de la liberté, de la justice et de la paix dans le monde,",
    "es": "Considerando que la libertad, la justicia y la paz en el mundo tienen por base el reconocimiento de la dignidad"
    " intrínseca y de los derechos iguales e inalienables de todos los miembros de la familia humana,",
    "it": "Considerato che il riconoscimento della dignità inerente a tutti i membri della famiglia umana e dei loro diritti,"
    " uguali ed inalienabili, costituisce il fondamento della libertà, della giustizia e della pace nel mondo;",
    "pt": "Considerando que é essencial a protecção dos direitos humanos através de um regime de direito, para que os seres"
    " humanos não sejam compelidos, em supremo recurso, à revolta contra a tirania e a opressão;",
    "nl": "Overwegende, dat erkenning van de inherente waardigheid en van de gelijke en onvervreemdbare rechten van alle leden"
    " van de mensengemeenschap grondslag is voor de vrijheid, gerechtigheid en vrede in de wereld;",
    "zh": "鉴于对人类家庭所有成员的固有尊严及其平等的和不移的权利的承认,乃是世界自由、正义与和平的基础,",
}  # fmt: skip


def test_the_table_has_the_languages_and_gophers_english() -> None:
    assert set(DECLARATION) == set(stop_words())
    assert stop_words()["en"] == set(STOP_WORDS)
    assert all(8 <= len(words) <= 12 for words in stop_words().values())


@pytest.mark.parametrize("words", ["peel", "space"])
@pytest.mark.parametrize("lang", list(DECLARATION))
def test_a_sentence_holds_words_of_its_own_language_only(lang: str, words: Any) -> None:
    each, text = RuleFilter(Rules(presets=["gopher"], words=words)), DECLARATION[lang]
    english = measure(text, FactsSettings(words=words)).values
    found = each.measure(Doc("1", text, columns={"lang": lang}))
    if lang == "en":
        assert found == {} and english["stop_words_distinct"] >= 2, "English keeps what the facts counted"
        return
    own = measure(text, FactsSettings(words=words, stop_words=tuple(sorted(stop_words()[lang])))).values
    assert found == {DISTINCT: own["stop_words_distinct"], TOTAL: own["stop_words_total"]}, (
        "as the kernel counts"
    )
    assert found[DISTINCT] >= 2 > english["stop_words_distinct"]
    for other in ("de-AT", "DE", "de_CH"):
        doc = Doc("1", DECLARATION["de"], columns={"lang": other})
        assert each.measure(doc)[DISTINCT] >= 2


@pytest.mark.parametrize("lang", ["pl", "und", "", None])
def test_of_another_language_the_english_words_count(lang: str | None) -> None:
    each = RuleFilter(Rules(presets=["gopher"]))
    assert each.measure(Doc("1", "to be or not to be", columns={"lang": lang})) == {}
    assert each.measure(Doc("1", "to be or not to be")) == {}


def test_it_counts_whatever_the_rules_look_at() -> None:
    def counted(**rules: Any) -> bool:
        each = RuleFilter(Rules(**rules))
        return bool(each.measure(Doc("1", DECLARATION["de"], columns={"lang": "de"})))

    assert counted(presets=["gopher"]) and counted(presets=["none"])
    assert not counted(presets=["gopher"], stop_words="english")
    both = RuleFilter(Rules(presets=["refinedweb"])).measure(Doc("1", "und der", columns={"lang": "de"}))
    assert set(both) == {DISTINCT, TOTAL, "m_words_cut"}


def test_a_ledger_is_not_judged_by_words_that_it_did_not_count(tmp_path: Path, make_context: Any) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"text": DECLARATION["de"], "lang": "de"}) + "\n")
    stage, context = get_stage("curate"), make_context()
    settings = stage.Settings(
        sources=[{"path": path, "name": "d", "license": "CC0-1.0"}], rules={"presets": ["none"]},
        executor={"kind": "inline"}, validation_share=0,
    )  # fmt: skip
    outcome = stage.run(settings, {}, context)
    made = Manifest(
        name="c", kind="curate", makes="corpus", key="0" * 64, stage_version=2, seed=7, started="", ended="",
        spec=outcome.spec.model_dump(mode="json"), settings=settings.model_dump(mode="json"),
    )  # fmt: skip
    (context.folder / "manifest.json").write_text(made.model_dump_json())
    corpus = CuratedCorpus(context.folder)
    again = Rethreshold(
        corpus, changed_settings(filter_settings(corpus), presets=["none"], sets=["min_stop_words=2"])
    )
    assert again.settings.rules.stop_words == "by_language"
    assert again.new_ledger(corpus.parts[0])["reason"].to_pylist() == [""]
    with pytest.raises(ArrieroError, match="counts stop words by_language; curate again for english"):
        Rethreshold(corpus, changed_settings(filter_settings(corpus), sets=["stop_words=english"]))
    del made.settings["rules"]["stop_words"]  # as before there was the setting
    (context.folder / "manifest.json").write_text(made.model_dump_json())
    old = changed_settings(filter_settings(CuratedCorpus(context.folder)), presets=["gopher"])
    assert old.rules.stop_words == "english"


@pytest.mark.parametrize("stop", ["by_language", "english"])
def test_documents_of_a_known_language_are_kept(tmp_path: Path, make_context: Any, stop: str) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"text": text, "lang": lang} for lang, text in DECLARATION.items()]
    rows += [{"text": DECLARATION["de"].upper(), "lang": "de"}, {"text": DECLARATION["de"] + "!"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules = {"presets": ["none"], "min_stop_words": 2, "stop_words": stop}
    stage, context = get_stage("curate"), make_context()
    source = {"path": path, "name": "d", "license": "CC0-1.0"}
    settings = stage.Settings(sources=[source], rules=rules, executor={"kind": "inline"}, validation_share=0)
    stage.run(settings, {}, context)
    (table,) = [t for _, t in CuratedCorpus(context.folder).tables(["reason", "lang", DISTINCT])]
    reasons = table["reason"].to_pylist()
    dropped = ["rules.min_stop_words"]
    assert reasons == ([""] * 8 + 2 * dropped if stop == "by_language" else [""] + 9 * dropped), (
        "written in capitals, or of no known language: no stop words"
    )
