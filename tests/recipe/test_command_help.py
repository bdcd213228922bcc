from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from arriero.cli import cli
from arriero.recipe.command_help import block_of, block_rows
from arriero.stage import STAGES, get_stage


@pytest.mark.parametrize("kind", sorted(STAGES))
def test_help_names_every_key_of_every_block(kind: str) -> None:
    shown = CliRunner().invoke(cli, [kind, "--help"], terminal_width=100).output
    keys = set(re.findall(r"^  ([\w.]+)(?: |$)", shown, re.MULTILINE))
    for field in get_stage(kind).Settings.model_fields.values():
        block = block_of(field.annotation)
        for key, text in block_rows(block) if block else ():
            assert key in keys
            assert text.strip(), f"{kind}: {key} has no description"


def test_inner_blocks_have_dotted_keys() -> None:
    shown = CliRunner().invoke(cli, ["curate", "--help"], terminal_width=100).output
    assert re.search(r"^Keys of --dedup:$", shown, re.MULTILINE)
    assert re.search(r"^  lines\.more_than .*\[default: 1\]$|^  lines\.more_than ", shown, re.MULTILINE)
