"""`seeds: [...]`: one stage written once, made once for each seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.errors import ArrieroError
from arriero.recipe.schema import read_recipe
from arriero.recipe.walks import run_recipe

MISTAKES = {
    "[1, 1]": "names a seed twice",
    "3": "a list of whole numbers",
    "[]": "a list of whole numbers",
    "[1, true]": "a list of whole numbers",
    "[1, -2]": "a list of whole numbers",
}


def with_seeds(recipe: Path, seeds: str, *, more: str = "") -> None:
    """The toy recipe's ``words`` made with several seeds."""
    text = recipe.read_text()
    assert "    inputs: {corpus: texts}\n" in text
    recipe.write_text(
        text.replace(
            "    inputs: {corpus: texts}\n", f"    inputs: {{corpus: texts}}\n    seeds: {seeds}\n{more}"
        )
    )


def test_one_stage_for_each_seed(toy_recipe: Path) -> None:
    with_seeds(toy_recipe, "[4, 7]")
    recipe = read_recipe(toy_recipe, ("words.size=33",))
    assert [(step.name, step.settings.seed) for step in recipe.steps if step.stage.kind == "words"] == [
        ("words-4", 4),
        ("words-7", 7),
    ]
    assert all(recipe.step(name).settings.size == 33 for name in ("words-4", "words-7"))
    refs = [str(ref) for ref in recipe.step("both").inputs["parts"]]
    assert refs == ["words-4", "words-7", "words-4", "words-7"], "the toy recipe names 'words' twice"
    assert [step.name for step in recipe.until("words")] == ["texts", "words-4", "words-7"]
    assert [step.name for step in recipe.until("words-7")] == ["texts", "words-7"]


def test_seeds_can_be_overridden(toy_recipe: Path) -> None:
    with_seeds(toy_recipe, "[4, 7]")
    recipe = read_recipe(toy_recipe, ("words.seeds=[5]",))
    assert [step.name for step in recipe.steps] == ["texts", "words-5", "both"]


@pytest.mark.parametrize("seeds", MISTAKES)
def test_wrong_seeds_are_one_line(toy_recipe: Path, seeds: str) -> None:
    with_seeds(toy_recipe, seeds)
    with pytest.raises(ArrieroError, match=MISTAKES[seeds]) as error:
        read_recipe(toy_recipe)
    assert f"{toy_recipe}:10: " in str(error.value)


def test_seed_and_seeds_exclude_each_other(toy_recipe: Path) -> None:
    with_seeds(toy_recipe, "[1, 2]", more="    seed: 3\n")
    with pytest.raises(ArrieroError, match="not both"):
        read_recipe(toy_recipe)


def test_a_name_that_seeds_make_is_taken(toy_recipe: Path) -> None:
    with_seeds(toy_recipe, "[1]")
    text = toy_recipe.read_text()
    toy_recipe.write_text(text + "  words-1:\n    kind: words\n    inputs: {corpus: texts}\n")
    with pytest.raises(ArrieroError, match="a second stage named 'words-1'"):
        read_recipe(toy_recipe)


def test_an_input_of_one_artifact_refuses_several(toy_recipe: Path) -> None:
    text = toy_recipe.read_text()
    toy_recipe.write_text(text.replace("  texts:\n", "  texts:\n    seeds: [1, 2]\n"))
    with pytest.raises(ArrieroError, match="takes one artifact, but 'texts' is texts-1, texts-2"):
        read_recipe(toy_recipe)


def test_setting_a_mistake_of_an_unrolled_stage_has_its_line(toy_recipe: Path) -> None:
    with_seeds(toy_recipe, "[1, 2]")
    toy_recipe.write_text(toy_recipe.read_text().replace("{corpus: texts}", "{corpus: both}"))
    with pytest.raises(ArrieroError, match="must be corpus, but 'both' makes tokens") as error:
        read_recipe(toy_recipe)
    assert f"{toy_recipe}:9: " in str(error.value)


def test_another_seed_makes_one_stage_more_and_reuses_the_rest(toy_recipe: Path, tmp_path: Path) -> None:
    with_seeds(toy_recipe, "[1, 2]")
    first = run_recipe(toy_recipe, out=tmp_path / "run")
    assert first.made == ["texts", "words-1", "words-2", "both"]
    second = run_recipe(toy_recipe, out=tmp_path / "run", sets=("words.seeds=[1, 2, 3]",))
    assert second.made == ["words-3", "both"] and second.reused == ["texts", "words-1", "words-2"]
