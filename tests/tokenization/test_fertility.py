"""Bytes per token and tokens per word, by language and script."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from arriero.cli import cli
from arriero.errors import ArrieroError
from arriero.tokenization.fertility import count_words, main_script, measure, read_texts
from arriero.tokenization.scripts import script_of
from arriero.tokenization.tokenizer import Tokenizer
from arriero.tokenization.wordpiece_train import train_wordpiece


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("Hello, world!", 2),
        ("one - two", 2),
        ("it's 3.5 km", 3),
        ("羊驼走过高山。", 6),
        ("羊驼 llama 走过", 5),
        ("llama羊驼s", 4),
        ("ภาษาไทย", 7),
        ("Привет мир", 2),
    ],
)
def test_words(text: str, words: int) -> None:
    assert count_words(text) == words


def test_scripts() -> None:
    found = {character: script_of(character) for character in "aéßЯω中あカーกअ한א5 .，\U0001f999"}
    assert found == {
        "a": "Latin", "é": "Latin", "ß": "Latin", "Я": "Cyrillic", "ω": "Greek", "中": "Han", "あ": "Hiragana",
        "カ": "Katakana", "ー": "Katakana", "ก": "Thai", "अ": "Devanagari", "한": "Hangul", "א": "Hebrew",
        "5": "Common", " ": "Common", ".": "Common", "，": "Common", "\U0001f999": "Common",
    }  # fmt: skip
    assert (main_script("中文 with English letters"), main_script("12 .")) == ("Latin", "Common")


def test_figures_by_hand(tokenizer: Tokenizer) -> None:
    texts = [("en", "the llama"), ("zh", "羊驼"), ("en", "road")]
    found = measure({"ours": tokenizer}, texts, "language")
    english = found["en"]["ours"]
    tokens = len(tokenizer.encode("the llama")) + len(tokenizer.encode("road"))
    assert (english.texts, english.bytes, english.words, english.tokens) == (2, 13, 3, tokens)
    assert english.bytes_per_token == 13 / tokens and english.fertility == tokens / 3
    assert list(measure({"ours": tokenizer}, texts, "script")) == ["Han", "Latin"]


def test_unknown_tokens_are_counted() -> None:
    wordpiece = train_wordpiece(["the llama on the road"] * 3, 300)
    fit = measure({"bert": wordpiece}, [("x", "the 羊 llama")], "language")["x"]["bert"]
    assert fit.unknown == 1 and 0 < fit.unknown_share < 1


def test_the_command(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tok")
    rows = [{"text": "the llama", "lang": "en"}, {"text": "羊驼走过", "lang": "zh"}]
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    (tmp_path / "prose.txt").write_text("Привет мир")
    texts = ["--text", str(tmp_path / "rows.jsonl.gz"), "--text", str(tmp_path / "prose.txt")]
    done = CliRunner().invoke(
        cli, ["fertility", str(tmp_path / "tok"), *texts, "--json"], catch_exceptions=False
    )
    groups = json.loads(done.output)["groups"]
    assert list(groups) == ["Cyrillic", "Han", "Latin"]
    assert groups["Han"]["tok"]["words"] == 4 and groups["Han"]["tok"]["bytes"] == 12
    done = CliRunner().invoke(cli, ["fertility", str(tmp_path / "tok"), *texts, "--by", "language"])
    assert "prose" in done.output and "every letter" in done.output


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": 3}')
    (tmp_path / "b.jsonl").write_text("nope")
    (tmp_path / "c.txt").write_bytes(b"\xff")
    for name, said in {
        "a.jsonl": "line 2 has no field text",
        "b.jsonl": "not JSON",
        "c.txt": "UTF-8",
        "d": "no file",
    }.items():
        with pytest.raises(ArrieroError, match=said):
            read_texts([tmp_path / name])
