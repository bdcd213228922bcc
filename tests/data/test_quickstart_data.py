"""The committed text of the quickstart: small enough, licensed, and readable by the stages that take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.data.conversations import read_conversations, read_preferences, split_holdout
from arriero.data.records import Limits, Record
from arriero.data.source import Source

DATA = Path(__file__).resolve().parents[2] / "recipes" / "data"
QUESTIONS = "Question: {question}\nAnswer: {answer}"


def test_every_file_is_small_and_has_its_licence() -> None:
    files = sorted(path for ending in ("gz", "bz2") for path in DATA.rglob(f"*.{ending}"))
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    assert sum(path.stat().st_size for path in files if path.name.startswith("smoke_")) <= 200_000
    table = (DATA / "LICENSES.md").read_text()
    for path in files:
        name = path.relative_to(DATA).as_posix()
        assert f"`{name}`" in table, f"{name} has no line in LICENSES.md"


@pytest.mark.parametrize(
    ("name", "options", "documents"),
    [
        ("stories.txt.gz", {"split": "blank_lines:2"}, 1094),
        ("encyclopedia.txt.gz", {"split": "blank_lines:2"}, 30),
        ("novels.txt.gz", {"split": "blank_lines:2"}, 238),
        ("web_pages.jsonl.gz", {}, 300),
        ("questions.jsonl.gz", {"template": QUESTIONS}, 1000),
        ("smoke_stories.txt.gz", {"split": "blank_lines:2"}, 160),
        ("smoke_web_pages.jsonl.gz", {}, 40),
    ],
)
def test_documents(name: str, options: dict[str, str], documents: int) -> None:
    source = Source(path=DATA / name, name="s", license="x", **options)  # type: ignore[arg-type]
    found = list(source.reader(DATA / name).read(DATA / name, 0, None, Limits()))
    assert len(found) == documents
    assert all(isinstance(record, Record) and record.content.strip() for record in found)


@pytest.mark.parametrize("prefix", ["", "smoke_"])
def test_fine_tuning_and_preferences_share_their_held_out_prompts(prefix: str) -> None:
    talks = read_conversations(DATA / f"{prefix}instructions.jsonl.gz")
    pairs = read_preferences(DATA / f"{prefix}preferences.jsonl.gz")
    assert all(pair.chosen != pair.rejected for pair in pairs)
    assert not any("{{" in message["content"] for talk in talks for message in talk)
    trained = {talk[0]["content"] for talk in split_holdout(talks, 0.1, 0)[0]}
    held = {pair.prompt[0]["content"] for pair in split_holdout(pairs, 0.1, 0)[1]}
    assert held and not trained & held
