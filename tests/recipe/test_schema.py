"""A mistake in a recipe is one clear line with file and line number."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.errors import ArrieroError
from arriero.recipe.schema import read_recipe

MISTAKES = {
    "unknown key": ("    inputs: {corpus: texts}\n", "    inputs: {corpus: texts}\n    sise: 12\n", 10, "did you mean 'size'"),
    "unknown top-level key": ("name: toy\n", "name: toy\nsed: 3\n", 2, "did you mean 'seed'"),
    "unknown key of the cost tables": ("name: toy\n", "name: toy\ncost:\n  regoin: FRA\n", 3, "did you mean 'region'"),
    "wrong type": ("    inputs: {corpus: texts}\n", "    inputs: {corpus: texts}\n    size: many\n", 10, "'size'"),
    "true is no number": ("    inputs: {corpus: texts}\n", "    inputs: {corpus: texts}\n    size: true\n", 10, "'size'"),
    "out of range": ("    inputs: {corpus: texts}\n", "    inputs: {corpus: texts}\n    size: 0\n", 10, "greater than or equal to 1"),
    "missing input": ("    inputs: {corpus: texts}\n", "", 8, "lacks its input 'corpus'"),
    "input from nowhere": ("{corpus: texts}", "{corpus: text}", 9, "did you mean 'texts'"),
    "unknown role": ("{corpus: texts}", "{corpsu: texts}", 9, "did you mean 'corpus'"),
    "wrong type of artifact": ("{corpus: texts}", "{corpus: both}", 9, "must be corpus, but 'both' makes tokens"),
    "a circle": ("[words, words]", "[words, both]", 10, "both -> both"),
    "two stages of one name": ("  both:\n    kind: merge", "  words:\n    kind: merge", 10, "two stages are named 'words'"),
    "unknown kind": ("kind: merge", "kind: mergee", 11, "did you mean 'merge'"),
    "nested unknown key": ("license: CC0-1.0", "licence: CC0-1.0", 7, "did you mean 'license'"),
    "nested missing key": ("- path: a.txt\n        license", "- license", 6, "'sources[0].path' is missing"),
    "not yaml": ("sources:\n", "sources: [\n", 6, "not valid YAML"),
    "a list where one is wanted": ("{corpus: texts}", "{corpus: [texts]}", 9, "takes one artifact"),
    "bad stage name": ("  both:", "  bo th:", 10, "a stage's name"),
    "bad name": ("name: toy", "name: ''", 1, "'name'"),
    "no stages": ("stages:", "stagez:", 2, "did you mean 'stages'"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_one_line(toy_recipe: Path, name: str) -> None:
    before, after, line, says = MISTAKES[name]
    text = toy_recipe.read_text()
    assert before in text
    toy_recipe.write_text(text.replace(before, after, 1))
    with pytest.raises(ArrieroError) as error:
        read_recipe(toy_recipe)
    message = str(error.value)
    first = message.splitlines()[0]
    assert f"{toy_recipe}:{line}: " in first, message
    assert says in first
    assert error.value.exit_code == 2


def test_defaults_seed_and_order(toy_recipe: Path) -> None:
    text = toy_recipe.read_text()
    head, _, rest = text.partition("  texts:")
    body = "  texts:" + rest
    words_at = body.index("  words:")
    shuffled = head + body[words_at:] + body[:words_at]
    toy_recipe.write_text(shuffled.replace("name: toy", "name: toy\nseed: 7"))
    recipe = read_recipe(toy_recipe)
    assert [step.name for step in recipe.steps] == ["texts", "words", "both"]
    assert all(step.settings.seed == 7 for step in recipe.steps)
    assert recipe.step("texts").settings.sources[0].path == toy_recipe.parent / "a.txt"


def test_set_overrides_a_setting_and_names_mistakes(toy_recipe: Path) -> None:
    recipe = read_recipe(toy_recipe, ("words.size=33", "words.lower=false"))
    assert recipe.step("words").settings.size == 33
    assert recipe.step("words").settings.lower is False
    for bad, says in {
        "wrods.size=3": "did you mean 'words'",
        "words.sizes=3": "did you mean 'size'",
        "words": "stage.key=value",
    }.items():
        with pytest.raises(ArrieroError, match=says):
            read_recipe(toy_recipe, (bad,))


def test_until_takes_what_the_stage_needs(toy_recipe: Path) -> None:
    recipe = read_recipe(toy_recipe)
    assert [step.name for step in recipe.until("words")] == ["texts", "words"]
    with pytest.raises(ArrieroError, match="did you mean 'words'"):
        recipe.until("wordz")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"- a\n- b\n", b"name: [unclosed"])
def test_files_that_are_no_recipe(toy_recipe: Path, content: bytes) -> None:
    toy_recipe.write_bytes(content)
    with pytest.raises(ArrieroError) as error:
        read_recipe(toy_recipe)
    assert "\n" not in str(error.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="no such file"):
        read_recipe(tmp_path / "none.yaml")
