"""The commands that make classifiers, lists and pairs from files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from arriero.cli import cli
from arriero.data.command import data
from arriero.errors import ArrieroError

POSTS = """<?xml version="1.0" encoding="utf-8"?>
<posts>
  <row Id="1" PostTypeId="1" Score="5" Title="How strong?" Body="&lt;p&gt;How strong should coffee be?&lt;/p&gt;" AcceptedAnswerId="3" />
  <row Id="2" PostTypeId="2" ParentId="1" Score="10" Body="&lt;p&gt;Sixty grams for a litre of water.&lt;/p&gt;" />
  <row Id="3" PostTypeId="2" ParentId="1" Score="9" Body="&lt;p&gt;As you like it, really.&lt;/p&gt;" />
</posts>
"""


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, ["data", *map(str, arguments)])


def test_a_classifier_tells_two_kinds_apart(tmp_path: Path) -> None:
    rng = random.Random(0)
    for name, words in (("good", "wolf river salt mule road"), ("bad", "buy cheap click now offer")):
        lines = [json.dumps({"text": f"{' '.join(rng.choices(words.split(), k=30))} {n}"}) for n in range(60)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    out = tmp_path / "quality.safetensors"
    done = run(
        "classifier",
        "--positive",
        tmp_path / "good.jsonl",
        "--negative",
        tmp_path / "bad.jsonl",
        "--out",
        out,
        "--set",
        "bits=12",
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)
    assert out.is_file()


def test_a_blocklist(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("bad.example\n# a comment\nworse.example\n")
    (tmp_path / "b.txt").write_text("bad.example\n")
    done = run("blocklist", tmp_path / "a.txt", tmp_path / "b.txt", "--out", tmp_path / "list.npy")
    assert "2 entries" in done.output, done.output
    assert len(np.load(tmp_path / "list.npy", allow_pickle=False)) >= 2
    assert isinstance(
        run("blocklist", tmp_path / "a.txt", "--out", tmp_path / "list.txt").exception, ArrieroError
    )


@pytest.mark.parametrize(
    ("more", "keys"), [((), {"prompt", "chosen", "rejected"}), (("--answers",), {"prompt", "response"})]
)
def test_pairs(tmp_path: Path, more: tuple[str, ...], keys: set[str]) -> None:
    (tmp_path / "Posts.xml").write_text(POSTS)
    done = run(
        "pairs", tmp_path / "Posts.xml", "--out", tmp_path / "pairs.jsonl", "--set", "min_gap=1", *more
    )
    assert done.exit_code == 0, done.output
    first = json.loads((tmp_path / "pairs.jsonl").read_text().splitlines()[0])
    assert keys <= first.keys()
    assert "Sixty grams" in str(
        first.get("chosen", first.get("response"))
    )  # 10 is more than 9, also as text it is less


def test_wrong_settings(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(POSTS)
    for given, message in (
        ("min_gpa=3", "did you mean 'min_gap'"),
        ("min_gap", "NAME=VALUE"),
        ("min_gap=x", "min_gap: "),
    ):
        error = run("pairs", tmp_path / "Posts.xml", "--out", tmp_path / "p.jsonl", "--set", given).exception
        assert isinstance(error, ArrieroError)
        assert message in str(error)


def test_every_command_has_help() -> None:
    assert {"inspect", "trace", "rethreshold", "report", "classifier", "blocklist", "pairs"} <= set(
        data.commands
    )
    for name in data.commands:
        assert run(name, "--help").exit_code == 0
