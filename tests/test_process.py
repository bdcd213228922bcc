"""How a process starts: what is switched in the C library, and for which commands."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from arriero import stage
from arriero.__main__ import TRAINING
from arriero.process import NO_SMALL_CACHE, TUNABLES

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a switch of the GNU C library")
SCRIPT = """
import json, os, sys
from arriero.process import start_again_without_small_cache
before = os.environ.get("GLIBC_TUNABLES", "")
start_again_without_small_cache()
print(json.dumps([before, sys.argv[1:], os.getpid()]))
"""


def start(tunables: str | None) -> tuple[list[object], int]:
    env = {key: value for key, value in os.environ.items() if key != TUNABLES}
    if tunables is not None:
        env[TUNABLES] = tunables
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "a b", "--x"], env=env, stdout=subprocess.PIPE, text=True
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(out), process.pid


@glibc
@pytest.mark.parametrize("given", [None, "glibc.malloc.mxfast=0"])
def test_a_process_starts_again_with_the_switch_and_stays_what_it_was(given: str | None) -> None:
    (after, arguments, number), pid = start(given)
    assert after == ":".join(part for part in (given, NO_SMALL_CACHE) if part)
    assert arguments == ["a b", "--x"] and number == pid


@glibc
def test_the_users_own_choice_is_left_alone() -> None:
    (after, _, _), _ = start("glibc.malloc.tcache_count=3")
    assert after == "glibc.malloc.tcache_count=3"


def test_every_stage_that_trains_starts_so() -> None:
    rooms = ("arriero.training", "arriero.tuning", "arriero.alignment", "arriero.compression.distill")
    known = {kind for kind, module in stage.STAGES.items() if module.startswith(rooms)}
    assert known - {"ngram", "extend"} == set(TRAINING) - {"run", "calibrate"}, "those two train no network"
